//! Messages as JSON, by their descriptors: the canonical proto3 mapping, with four things that a generic mapping does
//! not do: what is wrong is told by the path of each field, all at once; paths below custom fields are the tenant's own
//! keys and stay as they are; objects come out in a stable order; details of errors are readable.
mod path;
mod read;
mod scalar;
mod wkt;
mod write;

pub(crate) use path::{Names, field_named, mask_subject, rename};
pub(crate) use read::{Reader, near};
pub(crate) use scalar::from_text;
pub(crate) use wkt::Known;
pub(crate) use write::{Json, ValueJson};

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DynamicMessage;
    use rapport_proto::POOL;
    use serde_json::{Value, json};

    use super::{Json, Reader};

    /// Each kind of field there is, in messages that happen to have them.
    fn samples() -> Vec<(&'static str, Value)> {
        vec![
            ("buf.validate.FloatRules", json!({"const": 1.5, "in": [0.25, -3.0], "finite": true})),
            ("buf.validate.DoubleRules", json!({"const": 1e300, "in": [0.1, 12.0, -0.5]})),
            ("buf.validate.Int32Rules", json!({"const": -7, "in": [0, i32::MAX, i32::MIN]})),
            (
                "buf.validate.Int64Rules",
                json!({"const": "-9223372036854775808", "in": ["0", "9007199254740993"]}),
            ),
            ("buf.validate.UInt32Rules", json!({"const": u32::MAX})),
            ("buf.validate.UInt64Rules", json!({"const": "18446744073709551615"})),
            ("buf.validate.SInt32Rules", json!({"const": -1})),
            ("buf.validate.SInt64Rules", json!({"const": "-1"})),
            ("buf.validate.Fixed32Rules", json!({"const": 1})),
            ("buf.validate.Fixed64Rules", json!({"const": "1"})),
            ("buf.validate.SFixed32Rules", json!({"const": -1})),
            ("buf.validate.SFixed64Rules", json!({"const": "-1"})),
            ("buf.validate.BoolRules", json!({"const": false})),
            ("buf.validate.BytesRules", json!({"const": "+/8=", "in": ["", "AA=="]})),
            ("buf.validate.DurationRules", json!({"const": "1.500s", "in": ["-0.000000001s", "3s"]})),
            ("buf.validate.TimestampRules", json!({"const": "1969-12-31T23:59:59.500Z", "within": "86400s"})),
            ("google.protobuf.Struct", json!({"a": null, "b": [1, "x", {"c": true}], "d": 1.5})),
            (
                "rapport.fields.v1.Field",
                json!({"labels": {"en": "A", "zh-CN": "甲"}, "defaultValue": [1, "2"]}),
            ),
            ("rapport.identity.v1.SigningKey", json!({"id": "k", "publicKey": "AQID"})),
        ]
    }

    #[test]
    fn every_kind_of_field_reads_and_writes_as_an_independent_mapping_does() {
        for (name, json) in samples() {
            let descriptor = POOL.get_message_by_name(name).expect(name);
            let judged = DynamicMessage::deserialize(descriptor.clone(), json.clone()).unwrap();
            let mut reader = Reader::at("sample");
            let read = if name == "google.protobuf.Struct" {
                reader.free(&descriptor, &json, 0).unwrap()
            } else {
                let mut read = DynamicMessage::new(descriptor.clone());
                reader.fill(&mut read, json.as_object().unwrap());
                read
            };
            assert!(reader.violations.is_empty(), "{name}: {:?}", reader.violations);
            // On the wire, a zero that was said and one that was not are the same.
            let wire = |message: &DynamicMessage| message.encode_to_vec();
            let sent =
                |message| DynamicMessage::decode(descriptor.clone(), wire(message).as_slice()).unwrap();
            assert!(sent(&read) == sent(&judged), "{name}");
            let written = serde_json::to_value(Json(&read)).unwrap();
            assert_eq!(plain(written), plain(serde_json::to_value(&judged).unwrap()), "{name}");
        }
    }

    /// `3` and `3.0` are the same number.
    fn plain(json: Value) -> Value {
        match json {
            Value::Number(number) => json!(number.as_f64()),
            Value::Array(items) => items.into_iter().map(plain).collect(),
            Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, plain(value))).collect(),
            other => other,
        }
    }

    #[test]
    fn what_is_not_finite_has_words() {
        let descriptor = POOL.get_message_by_name("buf.validate.DoubleRules").unwrap();
        let json = json!({"in": ["NaN", "Infinity", "-Infinity"]});
        let judged = DynamicMessage::deserialize(descriptor, json.clone()).unwrap();
        assert_eq!(serde_json::to_value(Json(&judged)).unwrap(), json);
    }

    /// `cargo test --release -p rapport-gateway -- --ignored --nocapture microseconds`
    #[test]
    #[ignore = "a measurement"]
    fn microseconds_for_a_customer_with_twenty_attributes() {
        let attributes: serde_json::Map<_, _> =
            (0..20).map(|at| (format!("attribute{at}"), json!(format!("value {at}")))).collect();
        let customer = json!({
            "id": "0190a3c4-0000-7000-8000-000000000001", "etag": "3", "type": "CUSTOMER_TYPE_COMPANY",
            "displayName": "杭州云图科技有限公司", "status": "CUSTOMER_STATUS_EXISTING",
            "phones": [{"number": "0571-8765 4321", "e164": "+8657187654321", "label": "work"}],
            "emails": [{"address": "office@yuntu.example"}], "tags": ["vip"], "attributes": attributes,
            "createTime": "2026-01-31T08:00:00.123456Z", "updateTime": "2026-01-31T08:00:00.123456Z",
        });
        let descriptor = POOL.get_message_by_name("rapport.customer.v1.Customer").unwrap();
        let wire = DynamicMessage::deserialize(descriptor.clone(), customer.clone()).unwrap().encode_to_vec();
        let text = customer.to_string();
        let rounds = 20_000;
        let time = |what: &str, run: &mut dyn FnMut()| {
            let start = std::time::Instant::now();
            (0..rounds).for_each(|_| run());
            println!("{what}: {:.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
        };
        let decoded = DynamicMessage::decode(descriptor.clone(), wire.as_slice()).unwrap();
        time("wire to message", &mut || {
            drop(DynamicMessage::decode(descriptor.clone(), wire.as_slice()).unwrap())
        });
        time("message to JSON", &mut || drop(serde_json::to_vec(&Json(&decoded)).unwrap()));
        time("message to JSON by prost-reflect", &mut || drop(serde_json::to_vec(&decoded).unwrap()));
        time("JSON to message", &mut || {
            let json: Value = serde_json::from_str(&text).unwrap();
            let mut message = DynamicMessage::new(descriptor.clone());
            Reader::default().fill(&mut message, json.as_object().unwrap());
        });
        time("message to wire", &mut || drop(decoded.encode_to_vec()));
    }
}
