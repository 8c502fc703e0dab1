//! Who is told of alarms, by the API and by commands.

use reqwest::Method;
use serde_json::{Value, json};

use super::directory::Api;
use super::harness::{Baken, run, text};

const PROFILE: &str = r#"
name = "machines"

[[rules]]
key = "hot"
description = "Too hot"
[rules.raise.major]
when = { key = "t", operator = ">", value = 80 }
[rules.clear]
when = { key = "t", operator = "<", value = 70 }
"#;

/// A user with all addresses.
async fn eva(api: &Api, tenant: &Value) -> Value {
    let user = json!({
        "tenant": tenant["id"], "name": "Eva", "email": "eva@example.com", "phone": "+31612345678",
        "webhook": { "url": "https://chat.example.com/in" }, "language": "nl",
        "time_zone": "europe/amsterdam",
        "quiet_hours": [{ "days": ["sat", "sun"], "from": "22:30", "to": "07:00" }],
        "limits": { "sms": { "max_per_hour": 2 } },
    });
    api.made("/users", user).await
}

async fn profile(baken: &Baken, tenant: &Value) -> Value {
    let path = format!("/alarm-profiles?tenant={}", tenant["id"]);
    let source = PROFILE.to_owned();
    baken.client().post_text(&path, "application/toml", source).await.unwrap()["id"].clone()
}

#[tokio::test]
async fn documents_are_made_read_changed_and_deleted_with_their_versions() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, location) = api.site("Acme").await;
    let user = eva(&api, &tenant).await;
    assert_eq!(user["time_zone"], "Europe/Amsterdam", "as the database spells it");
    assert_eq!(user["quiet_hours"][0]["severity_from"], "critical");
    assert_eq!(user["limits"]["sms"], json!({ "group_s": 300, "max_per_hour": 2 }));
    assert_eq!(user["limits"]["email"], json!({ "group_s": 300, "max_per_hour": 20 }));
    let rules = json!([{ "profile": profile(&baken, &tenant).await, "key": "hot" }]);
    let subscription = json!({
        "user": user["id"], "channels": ["email", "sms"], "on": ["raised"], "rules": rules,
        "scope": { "locations": [location["id"]], "groups": ["Coast"] },
        "unacknowledged_for_s": 600,
    });
    let offline = json!({
        "tenant": tenant["id"], "name": "night", "after_s": 900, "users": [user["id"]],
        "channels": ["sms"], "emails": ["desk@example.com"], "scope": { "groups": ["Coast"] },
    });
    let template = json!({
        "tenant": tenant["id"], "channel": "email", "language": "nl", "kind": "test",
        "subject": "Proef", "text": "Dit is een proef.",
    });
    let cases = [
        ("/subscriptions", subscription, json!({ "enabled": false, "rules": [] })),
        ("/offline-profiles", offline, json!({ "name": "day", "after_s": 1_200 })),
        ("/message-templates", template, json!({ "subject": null, "text": "Een proef." })),
    ];
    for (path, body, change) in cases {
        let made = api.ask(Method::POST, path, Some(body.clone())).await;
        assert_eq!((made.status, made.etag.as_deref()), (201, Some("\"1\"")), "{}", made.body);
        for (name, value) in body.as_object().unwrap() {
            if name != "scope" {
                assert_eq!(&made.body[name], value, "{path} {name}");
            }
        }
        assert_eq!(made.body["tenant"], tenant["id"]);
        let one = format!("{path}/{}", made.body["id"]);
        assert_eq!(api.get(&one).await.body, made.body);
        assert_eq!(api.get(path).await.body["items"], json!([made.body]));
        let changed = api.ask_if(Method::PUT, &one, Some("\"1\""), Some(change.clone())).await;
        assert_eq!((changed.status, changed.etag.as_deref()), (200, Some("\"2\"")), "{path}");
        let mut wanted = made.body.clone();
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(wanted.as_object_mut().unwrap().remove(name)),
                value => wanted[name] = value.clone(),
            }
        }
        wanted["version"] = json!(2);
        wanted["changed_at"] = changed.body["changed_at"].clone();
        assert_eq!(changed.body, wanted, "what is not given stays");
        assert_eq!(api.ask_if(Method::PUT, &one, Some("1"), Some(change)).await.status, 412);
        assert_eq!(api.ask_if(Method::DELETE, &one, Some("1"), None).await.status, 412);
        assert_eq!(api.ask_if(Method::DELETE, &one, Some("2"), None).await.status, 204);
        assert_eq!(api.get(&one).await.status, 404);
    }
    let kinds = "user_created,subscription_deleted,offline_profile_changed,template_created";
    let events = api.get(&format!("/events?kind={kinds}")).await;
    assert_eq!(events.status, 200, "{}", events.body);
}

#[tokio::test]
async fn the_secret_of_a_webhook_is_shown_once_or_not_at_all() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, _) = api.site("Acme").await;
    let made = eva(&api, &tenant).await;
    let first = made["webhook"]["secret"].as_str().unwrap().to_owned();
    assert!(first.len() >= 22, "128 bits or more");
    let shown = json!({ "url": "https://chat.example.com/in", "has_secret": true });
    let path = format!("/users/{}", made["id"]);
    assert_eq!(api.get(&path).await.body["webhook"], shown);
    let put = async |webhook: Value| {
        let body = json!({ "webhook": webhook });
        let answer = api.ask(Method::PUT, &path, Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["webhook"].clone()
    };
    let moved = json!({ "url": "https://hall.example.com/in", "has_secret": true });
    assert_eq!(put(json!({ "url": "https://hall.example.com/in" })).await, moved);
    let second = put(json!({ "secret": null })).await["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(put(json!({ "secret": "given-by-the-tool" })).await, moved);
    let problem =
        api.refused(Method::PUT, &path, json!({ "webhook": { "secret": "sh0rt" } })).await;
    assert_eq!((problem.0, &problem.1["field"]), (422, &json!("webhook.secret")));
    assert!(!problem.1.to_string().contains("sh0rt"), "{}", problem.1);
    let bare = api.made("/users", json!({ "tenant": tenant["id"], "name": "Bare" })).await;
    let bare = format!("/users/{}", bare["id"]);
    let problem = api.refused(Method::PUT, &bare, json!({ "webhook": {} })).await;
    assert_eq!((problem.0, &problem.1["field"]), (422, &json!("webhook.url")));
    assert_eq!(put(Value::Null).await, Value::Null);

    let all = [api.get("/users").await.body, api.get("/events").await.body];
    let told = all.map(|body| body.to_string()).concat() + &baken.log().await;
    for secret in [first.as_str(), second.as_str(), "given-by-the-tool", "sealed1:"] {
        assert!(!told.contains(secret), "{secret} is told");
    }
    for file in ["store/directory.db", "store/directory.db-wal"] {
        let bytes = std::fs::read(baken.dir.join(file)).unwrap_or_default();
        for secret in [first.as_str(), second.as_str(), "given-by-the-tool"] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} stands in {file}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_value_and_what_is_allowed() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, _) = api.site("Acme").await;
    let user = api
        .made("/users", json!({ "tenant": tenant["id"], "name": "Eva", "email": "e@b.nl" }))
        .await;
    let profile = profile(&baken, &tenant).await;
    let of_user = |fields: Value| with(json!({ "tenant": tenant["id"], "name": "Jan" }), fields);
    let of_subscription = |fields: Value| {
        let good = json!({ "user": user["id"], "channels": ["email"], "on": ["raised"] });
        with(good, fields)
    };
    let of_offline = |fields: Value| {
        let good = json!({
            "tenant": tenant["id"], "name": "night", "after_s": 600, "emails": ["a@b.nl"],
        });
        with(good, fields)
    };
    let of_template = |fields: Value| {
        let good = json!({
            "tenant": tenant["id"], "channel": "sms", "language": "nl", "kind": "raised",
            "text": "Alarm",
        });
        with(good, fields)
    };
    let cases = [
        ("/users", of_user(json!({ "name": "Eva" })), 409, "name", "\"Eva\""),
        ("/users", of_user(json!({ "phone": "0612345678" })), 422, "phone", "+31612345678"),
        ("/users", of_user(json!({ "language": "fy" })), 422, "language", "`nl`"),
        ("/users", of_user(json!({ "time_zone": "Mars" })), 422, "time_zone", "Europe/Amsterdam"),
        (
            "/users",
            of_user(json!({ "webhook": { "url": "ftp://x.nl" } })),
            422,
            "webhook.url",
            "https://",
        ),
        (
            "/users",
            of_user(json!({ "webhook": { "url": "https://127.0.0.1:8080/admin" } })),
            422,
            "webhook.url",
            "public Internet",
        ),
        (
            "/users",
            of_user(json!({ "limits": { "sms": { "max_per_hour": 0 } } })),
            422,
            "limits.sms.max_per_hour",
            "1 to 3600",
        ),
        ("/subscriptions", of_subscription(json!({ "user": 999 })), 404, "user", "no user 999"),
        (
            "/subscriptions",
            of_subscription(json!({ "channels": ["sms"] })),
            422,
            "channels",
            "give the user a `phone` first",
        ),
        (
            "/subscriptions",
            of_subscription(json!({ "channels": ["pigeon"] })),
            422,
            "channels[0]",
            "`email`",
        ),
        (
            "/subscriptions",
            of_subscription(json!({ "rules": [{ "profile": 77 }] })),
            422,
            "rules[0].profile",
            "77",
        ),
        (
            "/subscriptions",
            of_subscription(json!({ "rules": [{ "profile": profile, "key": "cold" }] })),
            422,
            "rules[0].key",
            "\"cold\"",
        ),
        (
            "/subscriptions",
            of_subscription(json!({ "scope": { "locations": [999] } })),
            422,
            "scope.locations",
            "tenant's own",
        ),
        (
            "/subscriptions",
            of_subscription(json!({ "scope": { "location": [1] } })),
            422,
            "scope.location",
            "locations",
        ),
        (
            "/subscriptions",
            of_subscription(json!({ "on": ["cleared"], "unacknowledged_for_s": 60 })),
            422,
            "on",
            "raised must be among them",
        ),
        (
            "/offline-profiles",
            of_offline(json!({ "after_s": 60 })),
            422,
            "after_s",
            "settings.system_alarms.offline.delay_s",
        ),
        ("/offline-profiles", of_offline(json!({ "emails": [] })), 422, "users", "recipient"),
        ("/offline-profiles", of_offline(json!({ "users": [999] })), 422, "channels", "email"),
        ("/message-templates", of_template(json!({ "html": "<b>" })), 422, "html", "a text only"),
        (
            "/message-templates",
            of_template(json!({ "text": "{{ alarm.sevrity }}" })),
            422,
            "text",
            "`severity`",
        ),
        (
            "/message-templates/preview",
            json!({ "channel": "sms", "language": "nl", "kind": "test", "text": "{% if %}" }),
            422,
            "text",
            "line 1",
        ),
        (
            "/message-templates/preview",
            json!({ "channel": "email", "language": "nl", "kind": "test", "subject": "S" }),
            422,
            "text",
            "missing",
        ),
        ("/message-templates", of_template(json!({ "kind": "joke" })), 422, "kind", "`raised`"),
    ];
    for (path, body, status, field, detail) in cases {
        let (found, problem) = api.refused(Method::POST, path, body.clone()).await;
        assert_eq!((found, &problem["field"]), (status, &json!(field)), "{body}: {problem}");
        let text = problem["detail"].as_str().unwrap();
        assert!(text.contains(detail), "{body}: {text}");
    }
    api.made("/message-templates", of_template(json!({}))).await;
    let (status, problem) =
        api.refused(Method::POST, "/message-templates", of_template(json!({}))).await;
    assert_eq!(status, 409, "{problem}");
    // System alarms are chosen by 0, and their rules by their keys.
    let offline = json!({ "rules": [{ "profile": 0, "key": "router_offline" }, { "profile": 0 }] });
    let made = api.made("/subscriptions", of_subscription(offline)).await;
    let path = format!("/users/{}", user["id"]);
    let (status, problem) = api.refused(Method::PUT, &path, json!({ "email": null })).await;
    assert_eq!((status, &problem["field"]), (422, &json!("email")));
    let told = format!("subscription {} tells the user by email", made["id"]);
    assert!(problem["detail"].as_str().unwrap().contains(&told), "{problem}");
}

#[tokio::test]
async fn a_message_is_shown_before_it_is_saved() {
    let baken = Baken::start().await;
    let admin = Api::new(&baken, &baken.token());
    let (tenant, _) = admin.site("Acme").await;
    let token = json!({ "name": "t", "tenant": tenant["id"], "read_only": true });
    let token = admin.made("/tokens", token).await;
    let reader = Api::new(&baken, token["token"].as_str().unwrap());
    let show = async |body: Value| {
        let answer = reader.ask(Method::POST, "/message-templates/preview", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let of = |channel: &str, fields: Value| {
        with(json!({ "channel": channel, "language": "nl", "kind": "raised" }), fields)
    };
    let text = "{{ alarm.severity }} bij {{ tenant }}";
    let own = show(of("email", json!({ "subject": "Let op", "text": text, "html": "<p>&" }))).await;
    assert_eq!((&own["subject"], &own["html"]), (&json!("Let op"), &json!("<p>&")));
    let shown = own["text"].as_str().unwrap();
    assert!(shown.contains(" bij ") && !shown.contains("{{"), "{shown}");
    // Without a text it is Baken's own.
    let email = show(of("email", json!({}))).await;
    assert!(email["subject"].is_string() && email["html"].is_string(), "{email}");
    let sms = show(of("sms", json!({}))).await;
    assert!(sms["text"].is_string() && sms.get("subject").is_none(), "{sms}");
    let webhook = show(of("webhook", json!({}))).await;
    assert!(webhook["data"].is_object() && webhook.get("text").is_none(), "{webhook}");
    assert_eq!(reader.get("/message-templates").await.body, json!({ "items": [] }));
}

/// An object with some of its fields set otherwise.
fn with(mut good: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    for (name, value) in fields {
        good[name] = value;
    }
    good
}

#[tokio::test]
async fn tenants_never_see_each_other() {
    let baken = Baken::start().await;
    let admin = Api::new(&baken, &baken.token());
    let (one, _) = admin.site("one").await;
    let (two, there) = admin.site("two").await;
    let theirs = eva(&admin, &two).await;
    let subscription = json!({ "user": theirs["id"], "channels": ["sms"], "on": ["raised"] });
    let subscription = admin.made("/subscriptions", subscription).await;
    let offline = json!({
        "tenant": two["id"], "name": "two's", "after_s": 600, "emails": ["a@b.nl"],
    });
    let offline = admin.made("/offline-profiles", offline).await;
    let template = |tenant: &Value| {
        json!({
            "tenant": tenant["id"], "channel": "sms", "language": "nl", "kind": "raised",
            "text": "two's",
        })
    };
    let text = admin.made("/message-templates", template(&two)).await;
    let rules_of_two = profile(&baken, &two).await;
    let token = admin.made("/tokens", json!({ "name": "t", "tenant": one["id"] })).await;
    let api = Api::new(&baken, token["token"].as_str().unwrap());
    let documents = [
        format!("/users/{}", theirs["id"]),
        format!("/subscriptions/{}", subscription["id"]),
        format!("/offline-profiles/{}", offline["id"]),
        format!("/message-templates/{}", text["id"]),
    ];
    for path in &documents {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let body = (method == Method::PUT).then(|| json!({}));
            let answer = api.ask(method.clone(), path, body).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.starts_with("There is no "), "{detail}");
        }
        let list = path.rsplit_once('/').unwrap().0;
        assert_eq!(api.get(list).await.body, json!({ "items": [] }));
        assert_eq!(api.get(&format!("{list}?tenant={}", two["id"])).await.status, 404);
    }
    let of_user = format!("/subscriptions?user={}", theirs["id"]);
    assert_eq!(api.get(&of_user).await.body, json!({ "items": [] }));
    assert_eq!(admin.get(&of_user).await.body["items"], json!([subscription]));

    // Without naming itself it makes its own, and of another's it learns nothing.
    let mine = api.made("/users", json!({ "name": "Eva", "phone": "+31612345678" })).await;
    assert_eq!(mine["tenant"], one["id"]);
    let of_mine = |fields: Value| {
        with(json!({ "user": mine["id"], "channels": ["sms"], "on": ["raised"] }), fields)
    };
    let refused = [
        ("/users", json!({ "tenant": two["id"], "name": "x" }), 404, "tenant"),
        ("/subscriptions", of_mine(json!({ "user": theirs["id"] })), 404, "user"),
        (
            "/subscriptions",
            of_mine(json!({ "scope": { "locations": [there["id"]] } })),
            422,
            "scope.locations",
        ),
        (
            "/subscriptions",
            of_mine(json!({ "rules": [{ "profile": rules_of_two }] })),
            422,
            "rules[0].profile",
        ),
        (
            "/offline-profiles",
            json!({ "name": "n", "after_s": 600, "users": [theirs["id"]], "channels": ["sms"] }),
            422,
            "users",
        ),
        ("/message-templates", template(&two), 404, "tenant"),
    ];
    for (path, body, status, field) in refused {
        let (found, problem) = api.refused(Method::POST, path, body).await;
        assert_eq!((found, &problem["field"]), (status, &json!(field)), "{path}: {problem}");
    }
    api.made("/message-templates", template(&one)).await;
}

#[tokio::test]
async fn what_goes_takes_along_what_hangs_on_it() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, location) = api.site("Acme").await;
    let user = eva(&api, &tenant).await;
    let scoped = |scope: Value| json!({ "user": user["id"], "channels": ["sms"], "on": ["raised"], "scope": scope });
    let here = json!({ "locations": [location["id"]] });
    let only_here = api.made("/subscriptions", scoped(here)).await;
    let both = json!({ "locations": [location["id"]], "groups": ["Coast"] });
    let both = api.made("/subscriptions", scoped(both)).await;
    let offline = json!({
        "tenant": tenant["id"], "name": "n", "after_s": 600, "users": [user["id"]],
        "channels": ["email"],
    });
    let offline = api.made("/offline-profiles", offline).await;
    let status = async |path: String| api.get(&path).await.status;
    let delete = async |path: String| api.ask(Method::DELETE, &path, None).await;
    assert_eq!(delete(format!("/locations/{}", location["id"])).await.status, 204);
    assert_eq!(status(format!("/subscriptions/{}", only_here["id"])).await, 404);
    let left = api.get(&format!("/subscriptions/{}", both["id"])).await.body;
    assert_eq!(left["scope"], json!({ "locations": [], "groups": ["Coast"] }));

    let refused = delete(format!("/users/{}", user["id"])).await;
    let told = format!("is the only recipient of offline profile {}", offline["id"]);
    assert_eq!(refused.status, 409);
    assert!(refused.body["detail"].as_str().unwrap().contains(&told), "{}", refused.body);
    let more = json!({ "emails": ["desk@example.com"] });
    api.ask(Method::PUT, &format!("/offline-profiles/{}", offline["id"]), Some(more)).await;
    assert_eq!(delete(format!("/users/{}", user["id"])).await.status, 204);
    assert_eq!(status(format!("/subscriptions/{}", both["id"])).await, 404);
    let left = api.get(&format!("/offline-profiles/{}", offline["id"])).await.body;
    assert_eq!(left["users"], json!([]));
    assert_eq!(delete(format!("/tenants/{}", tenant["id"])).await.status, 204);
    assert_eq!(status(format!("/offline-profiles/{}", offline["id"])).await, 404);
}

/// A client command with `--json`; its answer.
async fn ask(baken: &Baken, args: &[&str]) -> Value {
    let data = baken.dir.to_str().unwrap();
    let output = run(&[args, &["--data", data, "--json"]].concat()).await;
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[tokio::test]
async fn by_commands() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, location) = api.site("Acme").await;
    let profile = profile(&baken, &tenant).await;
    let (tenant, location) = (tenant["id"].to_string(), location["id"].to_string());
    let user = ["users", "create", "Eva", "--tenant", &tenant, "--email", "eva@example.com"];
    let hooked = [&user[..], &["--webhook", "https://chat.example.com/in"]].concat();
    let user = ask(&baken, &hooked).await;
    assert!(user["webhook"]["secret"].is_string(), "{user}");
    let id = user["id"].to_string();
    let rule = format!("{profile}/hot");
    let create = [
        "subscriptions",
        "create",
        "--user",
        &id,
        "--channel",
        "email,webhook",
        "--severity-from",
        "major",
        "--on",
        "raised",
        "--on",
        "cleared",
        "--location",
        &location,
        "--group",
        "Coast",
        "--rule",
        &rule,
        "--rule",
        "0",
        "--unacknowledged-for",
        "10m",
        "--repeat",
        "3600",
    ];
    let made = ask(&baken, &create).await;
    for (field, value) in [
        ("channels", json!(["email", "webhook"])),
        ("severity_from", json!("major")),
        ("on", json!(["raised", "cleared"])),
        ("scope", json!({ "locations": [location.parse::<u64>().unwrap()], "groups": ["Coast"] })),
        ("rules", json!([{ "profile": profile, "key": "hot" }, { "profile": 0 }])),
        ("unacknowledged_for_s", json!(600)),
        ("repeat_s", json!(3_600)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let listed = ask(&baken, &["subscriptions", "list", "--user", &id]).await;
    assert_eq!(listed["items"], json!([made]));
    let short = ["subscriptions", "create", "--user", &id, "--channel", "email"];
    assert_eq!(ask(&baken, &short).await["on"], json!(["raised", "cleared"]));

    let create = ["offline-profiles", "create", "night", "--tenant", &tenant, "--after", "30m"];
    let who = ["--user", &id, "--channel", "email", "--phone", "+31612345678", "--not-when-back"];
    let offline = ask(&baken, &[&create[..], &who].concat()).await;
    assert_eq!((&offline["after_s"], &offline["when_back"]), (&json!(1_800), &json!(false)));
    let data = baken.dir.to_str().unwrap();
    let table = run(&["offline-profiles", "list", "--tenant", &tenant, "--data", data]).await;
    assert!(text(&table.stdout).contains("night"), "{}", text(&table.stdout));
    let shown = ask(&baken, &["users", "show", &id]).await;
    assert_eq!(shown["webhook"], json!({ "url": user["webhook"]["url"], "has_secret": true }));
    ask(&baken, &["subscriptions", "delete", &made["id"].to_string()]).await;
    ask(&baken, &["users", "delete", &id]).await;
    let left = ask(&baken, &["users", "list", "--tenant", &tenant]).await;
    assert_eq!(left, json!({ "items": [] }));
    let left = ask(&baken, &["offline-profiles", "show", &offline["id"].to_string()]).await;
    assert_eq!((&left["users"], &left["phones"]), (&json!([]), &json!(["+31612345678"])));
}
