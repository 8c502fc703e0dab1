//! A message of keys and devices that are known takes no memory of its own.

use ingest::batch::{KeyTable, Rows};
use ingest::decode::{self, Context, DeviceAnswer};
use ingest::limits::Limits;
use schema::{DeviceId, TenantId, TenantSettings, TimestampMs};

#[test]
fn decoding_allocates_nothing_for_a_value_of_a_known_key() {
    let (limits, settings) = (Limits::default(), TenantSettings::default());
    let context = Context::new(&limits, &settings, TimestampMs(1_764_000_000_000));
    let mut keys = KeyTable::new().cache(TenantId(1), 64);
    let mut rows = Rows::new();
    let values = r#"{"temperature":21.5,"running":true,"count":3,"state":"on","text":"läuft","n":null,
        "big":123456789012345678901234567890,"a":1,"b":"2","c":-3.5e-3}"#;
    let timestamped = format!(r#"[{{"ts":1763999999000,"values":{values}}},{values}]"#);
    let gateway =
        format!(r#"{{"One":[{values}],"Two":[{{"ts":1763999999000,"values":{values}}}]}}"#);
    let nested = r#"{"limits":{"low":[1,{"x":"y"}]}}"#;
    let mut run = |expected: u64, payload: &str, of_gateway: bool| {
        // The first time grows the rows and the key cache.
        for allocations in [u64::MAX, expected, expected] {
            rows.clear();
            let counted = allocation_counter::measure(|| {
                let payload = payload.as_bytes();
                if of_gateway {
                    let device = |_: &str| DeviceAnswer::Known(DeviceId(1));
                    decode::gateway_telemetry(payload, &context, &mut keys, &mut rows, device)
                        .unwrap();
                } else {
                    decode::telemetry(payload, DeviceId(1), &context, &mut keys, &mut rows)
                        .unwrap();
                }
            });
            assert!(!rows.is_empty());
            assert!(counted.count_total <= allocations, "{counted:?} for {payload}");
        }
    };
    run(0, values, false);
    run(0, &timestamped, false);
    // One buffer for the names of all of its devices.
    run(1, &gateway, true);
    // The JSON reader's stack while it looks for the end of a nested value.
    run(1, nested, false);
}
