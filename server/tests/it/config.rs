//! What is wrong with a configuration is told before anything is started.

use super::harness::{baken, run, serve, text};

#[tokio::test]
async fn a_misspelt_setting_is_told_by_check_and_by_serve() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("baken.toml");
    std::fs::write(&file, "[journal]\npartitions = 4\nretention_hour = 5\n").unwrap();
    let expected = format!(
        "baken: {}, line 3: there is no setting `journal.retention_hour`; \
         did you mean `journal.retention_hours`?\n",
        file.display()
    );
    let checked = run(&["config", "check", file.to_str().unwrap()]).await;
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(text(&checked.stderr), expected);

    let data = dir.path().join("data");
    let served = serve(&data).arg("--config").arg(&file).output().await.unwrap();
    assert_eq!(served.status.code(), Some(1));
    assert_eq!(text(&served.stderr), expected);
    assert!(!data.exists(), "nothing is made when the configuration is wrong");

    std::fs::write(&file, "[journal]\npartitions = 4\n").unwrap();
    let checked = run(&["config", "check", file.to_str().unwrap()]).await;
    assert!(checked.status.success());
}

#[tokio::test]
async fn the_one_in_force_is_shown_with_its_sources() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("baken.toml");
    std::fs::write(&file, "[api]\nmax_requests = 7\nmax_connections = 9\n").unwrap();
    let shown = baken()
        .args(["config", "show", "--log-level", "debug", "--config"])
        .arg(&file)
        .env("BAKEN_API__MAX_REQUESTS", "8")
        .output()
        .await
        .unwrap();
    let shown = text(&shown.stdout);
    for line in [
        "api.max_requests = 8  # variable BAKEN_API__MAX_REQUESTS".to_owned(),
        format!("api.max_connections = 9  # {}, line 3", file.display()),
        "log.level = \"debug\"  # flag --log-level".to_owned(),
        "journal.partitions = 4  # default".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no {line:?} in:\n{shown}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let served = serve(dir.path()).args(["--set", &format!("api.listen={address}")]).output();
    let served = served.await.unwrap();
    assert_eq!(served.status.code(), Some(1));
    let error = text(&served.stderr);
    assert!(error.contains(&format!("cannot listen on api.listen = {address}")), "{error}");
}
