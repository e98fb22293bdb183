use std::{fs, time::Instant};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

use super::*;

fn contract() -> Rules {
    Rules::compile(rapport_proto::methods().map(rapport_proto::Method::input)).unwrap()
}

/// A message of the contract from its JSON.
fn message(name: &str, json: &Value) -> DynamicMessage {
    let descriptor = rapport_proto::POOL.get_message_by_name(name).unwrap();
    DynamicMessage::deserialize(descriptor, json).unwrap()
}

/// What is wrong with a message, a line for each violation.
fn wrong(name: &str, json: Value) -> Vec<String> {
    lines(&contract(), &message(name, &json))
}

fn lines(rules: &Rules, message: &DynamicMessage) -> Vec<String> {
    rules.check(message).into_iter().map(|v| format!("{}: {}", v.field, v.problem)).collect()
}

#[test]
fn every_rule_of_the_contract_is_known() {
    contract();
}

#[test]
fn text_is_measured_in_characters_and_in_bytes() {
    let search = "rapport.customer.v1.SearchCustomersRequest";
    assert_eq!(wrong(search, json!({"query": "客".repeat(200)})), [""; 0]);
    assert_eq!(
        wrong(search, json!({"query": "客".repeat(201)})),
        ["query: has 201 characters; at most 200 are allowed"]
    );
    assert_eq!(wrong(search, json!({})), ["query: must not be empty"]);
    let list = "rapport.customer.v1.ListCustomersRequest";
    assert_eq!(
        wrong(list, json!({"filter": "客".repeat(1366)})),
        ["filter: has 4098 bytes; at most 4096 are allowed"]
    );
    let accept = "rapport.identity.v1.AcceptInvitationRequest";
    assert_eq!(
        wrong(accept, json!({"invitationToken": "t", "password": "hunter2"})),
        ["password: has 7 characters; at least 12 are needed"]
    );
}

#[test]
fn patterns_and_uuids_are_exact() {
    let get = "rapport.customer.v1.GetCustomerRequest";
    for right in ["0190a3c4-0000-7000-8000-000000000000", "0190A3C4-0000-7000-8000-00000000000F"] {
        assert_eq!(wrong(get, json!({"id": right})), [""; 0]);
    }
    assert_eq!(wrong(get, json!({"id": "7"})), ["id: `7` is not a UUID"]);
    assert_eq!(wrong(get, json!({})), ["id: `` is not a UUID"]);
    let uuid = "0190a3c4000070008000000000000000";
    for near in [uuid, "{0190a3c4-0000-7000-8000-0000000000}", "0190a3c4-0000-7000-8000-00000000000g"] {
        assert_eq!(wrong(get, json!({"id": near})).len(), 1, "{near}");
    }
    let upsert = json!({"source": "ERP", "externalId": "7", "customer": {"displayName": "x"}});
    assert_eq!(
        wrong("rapport.customer.v1.UpsertCustomerRequest", upsert),
        ["source: `ERP` does not match `^[a-z][a-z0-9_.-]{0,62}$`"]
    );
}

#[test]
fn numbers_have_bounds() {
    let list = "rapport.customer.v1.ListCustomersRequest";
    assert_eq!(wrong(list, json!({"pageSize": 200})), [""; 0]);
    assert_eq!(wrong(list, json!({"pageSize": 201})), ["page_size: 201 is more than 200"]);
    assert_eq!(wrong(list, json!({"pageSize": -1})), ["page_size: -1 is less than 0"]);
    let create = |headcount: &str| {
        wrong("rapport.customer.v1.CreateCustomerRequest", json!({"customer": {"headcount": headcount}}))
    };
    assert_eq!(create("0"), [""; 0]);
    assert_eq!(create("100000001"), ["customer.headcount: 100000001 is more than 100000000"]);
}

#[test]
fn what_is_required_is_missed_and_what_is_nested_is_checked() {
    let create = "rapport.customer.v1.CreateCustomerRequest";
    assert_eq!(wrong(create, json!({})), ["customer: is required"]);
    assert_eq!(wrong(create, json!({"customer": {}})), [""; 0]);
    let customer = json!({
        "tags": ["ok", "", "x".repeat(61)],
        "emails": [{"address": "a@b.example"}, {"address": "no"}],
        "phones": [{"number": ""}],
        "revenue": {"amount": "12,5", "currency": "CNY"},
        "addresses": [{"addressLines": ["ok", "y".repeat(201)], "regionCode": "china"}],
    });
    assert_eq!(
        wrong(create, json!({"customer": customer})),
        [
            "customer.phones[0].number: must not be empty",
            "customer.emails[1].address: has 2 characters; at least 3 are needed",
            "customer.addresses[0].region_code: `china` does not match `^([A-Z]{2})?$`",
            "customer.addresses[0].address_lines[1]: has 201 characters; at most 200 are allowed",
            "customer.revenue.amount: `12,5` does not match `^-?[0-9]{1,15}([.][0-9]{1,6})?$`",
            "customer.tags[1]: must not be empty",
            "customer.tags[2]: has 61 characters; at most 60 are allowed",
        ]
    );
}

#[test]
fn lists_have_sizes_and_may_not_repeat() {
    let assign = "rapport.customer.v1.AssignCustomersRequest";
    let id = |n: usize| format!("0190a3c4-0000-7000-8000-{n:012}");
    let owner = "identity.user/x";
    assert_eq!(wrong(assign, json!({"owner": owner})), ["ids: has 0 items; at least 1 are needed"]);
    assert_eq!(
        wrong(assign, json!({"owner": owner, "ids": [id(1), id(2), id(1), "x"]})),
        ["ids[2]: occurs more than once", "ids[3]: `x` is not a UUID"]
    );
    let many: Vec<_> = (0..1001).map(id).collect();
    assert_eq!(
        wrong(assign, json!({"owner": owner, "ids": many})),
        ["ids: has 1001 items; at most 1000 are allowed"]
    );
}

#[test]
fn maps_have_sizes_keys_and_values() {
    let create = |field: Value| wrong("rapport.fields.v1.CreateFieldRequest", json!({"field": field}));
    let field = json!({"resource": "customer", "key": "city", "kind": "FIELD_KIND_TEXT"});
    let with = |labels: Value| {
        let mut field = field.clone();
        field["labels"] = labels;
        create(field)
    };
    assert_eq!(with(json!({"en": "City", "zh-CN": "城市"})), [""; 0]);
    assert_eq!(create(field.clone()), [""; 0]);
    let pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$";
    assert_eq!(
        with(json!({"en": "", "1\n": "x"})),
        [
            format!("field.labels[\"1\u{fffd}\"]: `1\u{fffd}` does not match `{pattern}`"),
            "field.labels[\"en\"]: must not be empty".to_owned()
        ]
    );
    let many: serde_json::Map<_, _> = (0..41).map(|n| (format!("en-{n}"), json!("x"))).collect();
    assert_eq!(with(many.into()), ["field.labels: has 41 entries; at most 40 are allowed"]);
}

#[test]
fn choices_are_among_the_defined_ones() {
    let share = |level: Value| wrong("rapport.type.v1.Share", json!({"principal": "p", "level": level}));
    let allowed = "is not one of SHARE_LEVEL_READ, SHARE_LEVEL_WRITE";
    assert_eq!(share(json!("SHARE_LEVEL_READ")), [""; 0]);
    assert_eq!(share(json!(0)), [format!("level: 0 {allowed}")]);
    assert_eq!(share(json!(7)), [format!("level: 7 {allowed}")]);
}

#[test]
fn a_oneof_needs_a_member() {
    let batch = "rapport.customer.v1.BatchCustomersRequest";
    let id = "0190a3c4-0000-7000-8000-000000000000";
    assert_eq!(wrong(batch, json!({"changes": [{"delete": {"id": id}}]})), [""; 0]);
    assert_eq!(
        wrong(batch, json!({"changes": [{"delete": {"id": id}}, {}, {"create": {}}]})),
        [
            "changes[1].change: needs one of `create`, `update`, `upsert`, `delete`",
            "changes[2].create.customer: is required"
        ]
    );
    let token = "rapport.identity.v1.ExchangeCredentialRequest";
    assert_eq!(wrong(token, json!({})), ["credential: needs one of `session_token`, `api_key`"]);
}

#[test]
fn personal_and_secret_values_are_not_repeated() {
    let create = json!({"customer": {"birthDate": "tomorrow", "foundingDate": "tomorrow"}});
    let lines = wrong("rapport.customer.v1.CreateCustomerRequest", create);
    let pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2})?$";
    assert_eq!(
        lines,
        [
            format!("customer.founding_date: `tomorrow` does not match `{pattern}`"),
            format!("customer.birth_date: the value does not match `{pattern}`"),
        ]
    );
}

#[test]
fn many_violations_fit_the_headers() {
    let batch = json!({"changes": vec![json!({}); 1000]});
    let violations = contract().check(&message("rapport.customer.v1.BatchCustomersRequest", &batch));
    assert_eq!(violations.len(), 21);
    assert_eq!(violations[20].field, "request");
    assert_eq!(violations[20].problem, "has 980 more problems");
    let status = tonic::Status::from(rapport_kernel::Error::Invalid(violations));
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    assert!(
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>() < 12 << 10
    );
}

/// The rules of the message `M` of a small contract of its own.
fn own(fields: &str) -> Result<(Rules, DescriptorPool), UnknownRule> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("syntax = \"proto3\"; import \"buf/validate/validate.proto\"; {fields}");
    fs::write(folder.path().join("own.proto"), text).unwrap();
    let vendor = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto/vendor");
    let mut compiler = protox::Compiler::new([folder.path(), vendor.as_ref()]).unwrap();
    compiler.include_imports(true).open_file("own.proto").unwrap();
    let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap();
    Ok((Rules::compile([pool.get_message_by_name("M").unwrap()])?, pool))
}

#[test]
fn a_rule_that_is_not_known_is_refused_by_its_name() {
    let v = "(buf.validate.field)";
    for (fields, expected) in [
        (format!("message M {{ string f = 1 [{v}.string.email = true]; }}"), "M.f: the rule `string.email`"),
        (
            format!("message M {{ string f = 1 [{v}.cel = {{id: \"a\", expression: \"true\"}}]; }}"),
            "M.f: the rule `cel`",
        ),
        (format!("message M {{ double f = 1 [{v}.double.gt = 0]; }}"), "M.f: the rule `double`"),
        (format!("message M {{ int32 f = 1 [{v}.int32.const = 1]; }}"), "M.f: the rule `int32.const`"),
        (
            format!("message M {{ repeated int32 f = 1 [{v}.repeated.unique = true]; }}"),
            "M.f: the rule `repeated.unique`",
        ),
        (
            format!("message M {{ repeated string f = 1 [{v}.repeated.items.string.ip = true]; }}"),
            "M.f: the rule `string.ip`",
        ),
        (
            format!("message M {{ repeated string f = 1 [{v}.repeated.items.required = true]; }}"),
            "M.f: the rule `repeated.items.required`",
        ),
        (
            format!("message M {{ string f = 1 [{v}.string.pattern = \"(?<!x)\"]; }}"),
            "M.f: the rule `string.pattern = ",
        ),
        (format!("message M {{ string f = 1 [{v}.ignore = IGNORE_ALWAYS]; }}"), "M.f: the rule `ignore`"),
        ("message M { option (buf.validate.message).cel = {id: \"a\"}; }".into(), "M: the rule `cel`"),
        (
            format!(
                "message M {{ repeated N n = 1; }} message N {{ M m = 1; bytes f = 2 [{v}.bytes.max_len = 3]; }}"
            ),
            "the rule `bytes of N.f`",
        ),
    ] {
        let error = own(&fields).unwrap_err().to_string();
        assert!(error.contains(expected), "{fields}: {error}");
    }
}

#[test]
fn types_that_contain_themselves_are_checked_all_the_way_down() {
    let (rules, pool) =
        own("message M { repeated M below = 1; string f = 2 [(buf.validate.field).string.max_len = 1]; }")
            .unwrap();
    let m = pool.get_message_by_name("M").unwrap();
    let json = json!({"below": [{}, {"below": [{"f": "xx"}]}]});
    let message = DynamicMessage::deserialize(m, &json).unwrap();
    assert_eq!(lines(&rules, &message), ["below[1].below[0].f: has 2 characters; at most 1 are allowed"]);
}

#[test]
fn presence_decides_what_an_absent_value_means() {
    let v = "(buf.validate.field).string.min_len = 2";
    let (rules, pool) = own(&format!(
        "message M {{ string plain = 1 [{v}]; optional string set = 2 [{v}];
         string ignored = 3 [{v}, (buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE];
         string needed = 4 [(buf.validate.field).required = true];
         oneof o {{ string chosen = 5 [{v}]; string other = 6; }} }}"
    ))
    .unwrap();
    let m = pool.get_message_by_name("M").unwrap();
    let lines = |json: Value| lines(&rules, &DynamicMessage::deserialize(m.clone(), &json).unwrap());
    let short = "has 0 characters; at least 2 are needed";
    assert_eq!(lines(json!({"needed": "x"})), [format!("plain: {short}")]);
    assert_eq!(lines(json!({"plain": "xx"})), ["needed: is required"]);
    let empty = json!({"plain": "xx", "needed": "x", "set": "", "ignored": "", "chosen": ""});
    assert_eq!(lines(empty), [format!("set: {short}"), format!("chosen: {short}")]);
    assert_eq!(lines(json!({"plain": "xx", "needed": "x", "ignored": "y", "other": ""})).len(), 1);
}

/// A customer with twenty custom fields, as an import or a form sends it.
fn create_customer() -> DynamicMessage {
    let attributes: serde_json::Map<_, _> =
        (0..20).map(|n| (format!("field{n}"), json!(format!("value {n}")))).collect();
    let json = json!({
        "customer": {
            "type": "CUSTOMER_TYPE_COMPANY", "displayName": "杭州云栖科技有限公司", "industry": "telecom",
            "owner": "identity.user/0190a3c4-0000-7000-8000-000000000000", "headcount": "120",
            "phones": [{"number": "0571-8765 4321", "label": "work"}], "emails": [{"address": "info@example.com"}],
            "addresses": [{"regionCode": "CN", "locality": "杭州市", "addressLines": ["文一西路 1 号"]}],
            "revenue": {"amount": "1200000.00", "currency": "CNY"}, "tags": ["vip", "2026"],
            "externalIds": [{"source": "erp", "externalId": "4711"}], "attributes": attributes,
        },
        "requestId": "r-1",
    });
    message("rapport.customer.v1.CreateCustomerRequest", &json)
}

#[test]
fn a_fingerprint_is_of_what_is_said_not_of_how_it_is_written() {
    let first = create_customer();
    let expected = fingerprint(&first);
    let descriptor =
        rapport_proto::POOL.get_message_by_name("rapport.customer.v1.CreateCustomerRequest").unwrap();
    let mut encodings = std::collections::HashSet::new();
    for _ in 0..20 {
        // Each message has maps of another order, as a client that was started again would.
        let bytes = create_customer().encode_to_vec();
        let again = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
        assert_eq!(fingerprint(&again), expected);
        encodings.insert(bytes);
    }
    assert!(encodings.len() > 1, "the order of the map has to differ for this test to mean anything");

    let mut other_id = first.clone();
    other_id.set_field_by_name("request_id", prost_reflect::Value::String("r-2".into()));
    assert_eq!(fingerprint(&other_id), expected);
    let json = first.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).unwrap();
    for change in ["/customer/attributes/field7", "/customer/displayName", "/customer/phones/0/number"] {
        let mut json: Value = json.clone();
        *json.pointer_mut(change).unwrap() = json!("something else");
        assert_ne!(
            fingerprint(&message("rapport.customer.v1.CreateCustomerRequest", &json)),
            expected,
            "{change}"
        );
    }
}

/// The time of one `f`, the best of some tries: others use the machine, too.
fn time(mut f: impl FnMut()) -> std::time::Duration {
    let tries = (0..10).map(|_| {
        let began = Instant::now();
        (0..200).for_each(|_| f());
        began.elapsed() / 200
    });
    tries.min().unwrap()
}

#[test]
fn checking_costs_little() {
    let rules = contract();
    let bytes = create_customer().encode_to_vec();
    let descriptor =
        rapport_proto::POOL.get_message_by_name("rapport.customer.v1.CreateCustomerRequest").unwrap();
    let decode = || DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
    let message = decode();
    let both = time(|| assert!(rules.check(&decode()).is_empty()));
    let check = time(|| assert!(rules.check(&message).is_empty()));
    let digest = time(|| {
        std::hint::black_box(fingerprint(&message));
    });
    println!(
        "{} bytes: decode and check {both:?}, check alone {check:?}, fingerprint {digest:?}",
        bytes.len()
    );
    assert!(both.as_millis() < 5, "{both:?}");
}
