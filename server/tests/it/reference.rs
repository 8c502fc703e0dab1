//! The committed references are what the binary prints.

use std::path::Path;

use super::harness::{run, text};

async fn check(args: &[&str], file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(file);
    let printed = text(&run(args).await.stdout);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        printed == committed,
        "docs/reference/{file} is out of date; run `baken {} > docs/reference/{file}`",
        args.join(" ")
    );
}

#[tokio::test]
async fn the_configuration_reference_is_up_to_date() {
    check(&["config", "reference"], "configuration.md").await;
}

#[tokio::test]
async fn the_openapi_description_is_up_to_date() {
    check(&["openapi"], "openapi.json").await;
}
