//! Connect, disconnect, attribute requests and RPC.

use super::*;

#[test]
fn connect_and_disconnect() {
    let body = connect(br#"{"device":"D\u00e9","type":"pump","extra":1}"#).unwrap();
    assert_eq!((&*body.device, body.device_type.as_deref()), ("Dé", Some("pump")));
    for payload in [r#"{"device":"D"}"#, r#"{"device":"D","type":null}"#] {
        assert_eq!(connect(payload.as_bytes()).unwrap().device_type, None, "{payload}");
    }
    assert_eq!(disconnect(br#"{"device":"D"}"#).unwrap().device, "D");
    for payload in ["", "{}", "[]", r#"{"device":1}"#, r#"{"device":"D""#] {
        assert_eq!(connect(payload.as_bytes()).unwrap_err().reason, Reason::Malformed, "{payload}");
        assert_eq!(
            disconnect(payload.as_bytes()).unwrap_err().reason,
            Reason::Malformed,
            "{payload}"
        );
    }
    assert_eq!(
        connect(b"{}").unwrap_err().to_string(),
        "malformed: missing field `device` at line 1 column 2 in `{}`; \
         expected {\"device\":name,\"type\":profile?}"
    );
}

#[test]
fn attribute_requests() {
    let list = |keys: &[&str]| Some(keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>());
    for (payload, client_keys, shared_keys) in [
        (r#"{"clientKeys":"a,b","sharedKeys":"c"}"#, list(&["a", "b"]), list(&["c"])),
        (r#"{"sharedKeys":"c,"}"#, None, list(&["c"])),
        (r#"{"clientKeys":""}"#, list(&[]), None),
        ("{}", None, None),
    ] {
        let expected = AttributeRequest { client_keys, shared_keys };
        assert_eq!(attribute_request(payload.as_bytes()).unwrap(), expected, "{payload}");
    }
    assert!(attribute_request(br#"{"clientKeys":["a"]}"#).is_err());
}

#[test]
fn gateway_attribute_requests() {
    let one =
        gateway_attribute_request(br#"{"id":4,"device":"D","client":true,"key":"k"}"#).unwrap();
    assert_eq!((one.id, &*one.device, one.client, one.several), (4, "D", true, false));
    assert_eq!(one.keys, ["k"]);
    let payload = br#"{"id":"5","device":"D","client":false,"keys":["a","b"]}"#;
    let two = gateway_attribute_request(payload).unwrap();
    assert_eq!((two.id, two.client, two.several, two.keys.len()), (5, false, true, 2));
    for payload in [
        r#"{"device":"D","client":true,"key":"k"}"#,
        r#"{"id":1,"client":true,"key":"k"}"#,
        r#"{"id":1,"device":"D","client":true}"#,
        r#"{"id":1.5,"device":"D","client":true,"key":"k"}"#,
        r#"{"id":"x","device":"D","client":true,"key":"k"}"#,
    ] {
        let error = gateway_attribute_request(payload.as_bytes()).unwrap_err();
        assert_eq!(error.reason, Reason::Malformed, "{payload}");
    }
}

#[test]
fn rpc() {
    let call = rpc_request(br#"{"method":"getSessionLimits","params":{"a":[1]}}"#).unwrap();
    assert_eq!((&*call.method, call.params.unwrap().get()), ("getSessionLimits", r#"{"a":[1]}"#));
    assert!(rpc_request(br#"{"method":"m"}"#).unwrap().params.is_none());
    assert!(rpc_request(br#"{"params":{}}"#).is_err());
    let answer = gateway_rpc_response(br#"{"device":"D","id":3,"data":{"ok":true}}"#).unwrap();
    assert_eq!(
        (&*answer.device, answer.id, answer.data.unwrap().get()),
        ("D", 3, r#"{"ok":true}"#)
    );
    assert!(gateway_rpc_response(br#"{"device":"D","data":1}"#).is_err());
    for payload in ["1", "null", "\"x\"", "{\"a\": 1}"] {
        assert_eq!(json(payload.as_bytes()).unwrap().get(), payload);
    }
    for payload in ["", "{", "nul", "1 2"] {
        assert!(json(payload.as_bytes()).is_err(), "{payload}");
    }
}
