//! URLs that the door refuses, each with its rule; none of them connects to anything.
use rapport_egress::{Door, Failure, Rule, Sabotage, Settings};

use crate::world::{Names, OK, Server, TENANT, door_outside, door_to, post, settings};

const REFUSED: &[(&str, Rule)] = &[
    // No URLs.
    ("", Rule::Url),
    ("example.com/hook", Rule::Url),
    ("//example.com/hook", Rule::Url),
    ("https://", Rule::Url),
    ("https://exa mple.com/", Rule::Url),
    ("https://example.com:99999/", Rule::Url),
    ("https://[::1", Rule::Url),
    ("https://[fe80::1%25eth0]/", Rule::Url),
    ("https://256.1.1.1/", Rule::Url),
    ("https://1.2.3.4.5/", Rule::Url),
    ("https://0x100000000/", Rule::Url),
    ("https://example.com;127.0.0.1/", Rule::Url),
    ("https://example.com%2f@127.0.0.1\u{0}/", Rule::Url),
    // Schemes.
    ("http://example.com/", Rule::Scheme),
    ("http://127.0.0.1/", Rule::Scheme),
    ("ftp://example.com/", Rule::Scheme),
    ("file:///etc/passwd", Rule::Scheme),
    ("gopher://127.0.0.1:6379/_INFO", Rule::Scheme),
    ("data:text/plain,x", Rule::Scheme),
    ("javascript:alert(1)", Rule::Scheme),
    ("unix:///run/docker.sock", Rule::Scheme),
    ("localhost:9200", Rule::Scheme),
    ("ws://example.com/", Rule::Scheme),
    // Credentials and fragments.
    ("https://user@example.com/", Rule::Credentials),
    ("https://user:secret@example.com/", Rule::Credentials),
    ("https://:secret@example.com/", Rule::Credentials),
    ("https://example.com@127.0.0.1/", Rule::Credentials),
    ("https://example.com%40127.0.0.1:x@169.254.169.254/", Rule::Credentials),
    ("https://example.com/#a", Rule::Fragment),
    ("https://example.com/#@127.0.0.1/", Rule::Fragment),
    // Ports.
    ("https://example.com:22/", Rule::Port),
    ("https://example.com:80/", Rule::Port),
    ("https://example.com:6379/", Rule::Port),
    ("https://example.com:8443/", Rule::Port),
    ("https://8.8.8.8:0/", Rule::Port),
    // Names.
    ("https://localhost/", Rule::Name),
    ("https://LOCALHOST/", Rule::Name),
    ("https://localhost./", Rule::Name),
    ("https://ｌｏｃａｌｈｏｓｔ/", Rule::Name),
    ("https://a.localhost/", Rule::Name),
    ("https://localhost.localdomain/", Rule::Name),
    ("https://db/", Rule::Name),
    ("https://kubernetes.default.svc.cluster.local/", Rule::Name),
    ("https://printer.local/", Rule::Name),
    ("https://wiki.corp/", Rule::Name),
    ("https://nas.home.arpa/", Rule::Name),
    ("https://router.lan/", Rule::Name),
    ("https://vault.internal/", Rule::Name),
    ("https://hidden.onion/", Rule::Name),
    ("https://example.com./", Rule::Name),
    ("https://a..example.com/", Rule::Name),
    ("https://*.example.com/", Rule::Name),
    ("https://example.com;/", Rule::Name),
    // Metadata services.
    ("https://169.254.169.254/latest/meta-data/", Rule::Metadata),
    ("https://2852039166/", Rule::Metadata),
    ("https://0xA9FEA9FE/", Rule::Metadata),
    ("https://0251.0376.0251.0376/", Rule::Metadata),
    ("https://169.254.43518/", Rule::Metadata),
    ("https://[::ffff:169.254.169.254]/", Rule::Metadata),
    ("https://[::ffff:a9fe:a9fe]/", Rule::Metadata),
    ("https://[fd00:ec2::254]/", Rule::Metadata),
    ("https://[fd00:0ec2:0:0:0:0:0:254]/", Rule::Metadata),
    ("https://169.254.170.2/v2/credentials", Rule::Metadata),
    ("https://100.100.100.200/", Rule::Metadata),
    ("https://168.63.129.16/", Rule::Metadata),
    ("https://metadata.google.internal/", Rule::Metadata),
    ("https://METADATA.google.internal./", Rule::Metadata),
    ("https://metadata/", Rule::Metadata),
    // Loopback and no host at all, in every spelling.
    ("https://127.0.0.1/", Rule::Loopback),
    ("https://127.0.0.1./", Rule::Loopback),
    ("https://127.1/", Rule::Loopback),
    ("https://127.0.1/", Rule::Loopback),
    ("https://127.255.255.254/", Rule::Loopback),
    ("https://2130706433/", Rule::Loopback),
    ("https://0x7f000001/", Rule::Loopback),
    ("https://0x7f.1/", Rule::Loopback),
    ("https://0x7f.0x0.0x0.0x1/", Rule::Loopback),
    ("https://017700000001/", Rule::Loopback),
    ("https://0177.0.0.1/", Rule::Loopback),
    ("https://0177.0x0.1/", Rule::Loopback),
    ("https://%31%32%37.0.0.1/", Rule::Loopback),
    ("https://127。0。0。1/", Rule::Loopback),
    ("https://１２７.0.0.1/", Rule::Loopback),
    ("https://①②⑦.0.0.1/", Rule::Loopback),
    ("https:\\\\127.0.0.1\\", Rule::Loopback),
    ("https:127.0.0.1", Rule::Loopback),
    ("https:///127.0.0.1/", Rule::Loopback),
    ("https://\t127.0.0.1\n/", Rule::Loopback),
    ("https://[::1]/", Rule::Loopback),
    ("https://[0:0:0:0:0:0:0:1]/", Rule::Loopback),
    ("https://[::ffff:127.0.0.1]/", Rule::Loopback),
    ("https://[::ffff:7f00:1]/", Rule::Loopback),
    ("https://[::FFFF:7F00:0001]/", Rule::Loopback),
    ("https://0/", Rule::Unspecified),
    ("https://0.0.0.0/", Rule::Unspecified),
    ("https://0x0/", Rule::Unspecified),
    ("https://0.1.2.3/", Rule::Unspecified),
    ("https://[::]/", Rule::Unspecified),
    ("https://[::ffff:0.0.0.0]/", Rule::Unspecified),
    // Networks of the inside.
    ("https://10.0.0.1/", Rule::Private),
    ("https://10.1/", Rule::Private),
    ("https://012.1.2.3/", Rule::Private),
    ("https://172.16.0.1/", Rule::Private),
    ("https://172.31.255.255/", Rule::Private),
    ("https://192.168.1.1/", Rule::Private),
    ("https://3232235777/", Rule::Private),
    ("https://[::ffff:10.0.0.1]/", Rule::Private),
    ("https://[fc00::1]/", Rule::Private),
    ("https://[fdff:ffff::1]/", Rule::Private),
    ("https://[fec0::1]/", Rule::Private),
    ("https://100.64.0.1/", Rule::Shared),
    ("https://100.127.255.255/", Rule::Shared),
    ("https://169.254.0.1/", Rule::LinkLocal),
    ("https://[fe80::1]/", Rule::LinkLocal),
    ("https://[febf::1]/", Rule::LinkLocal),
    ("https://224.0.0.1/", Rule::Multicast),
    ("https://239.255.255.250/", Rule::Multicast),
    ("https://[ff02::1]/", Rule::Multicast),
    // Addresses within addresses.
    ("https://[::127.0.0.1]/", Rule::Embedded),
    ("https://[::a00:1]/", Rule::Embedded),
    ("https://[64:ff9b::127.0.0.1]/", Rule::Embedded),
    ("https://[64:ff9b::a9fe:a9fe]/", Rule::Embedded),
    ("https://[64:ff9b:1::a00:1]/", Rule::Embedded),
    ("https://[2002:7f00:1::]/", Rule::Embedded),
    ("https://[2002:a9fe:a9fe::1]/", Rule::Embedded),
    ("https://[2001:0:5ef5:79fd::1]/", Rule::Embedded),
    ("https://192.88.99.1/", Rule::Embedded),
    // Set apart.
    ("https://192.0.0.8/", Rule::Special),
    ("https://192.0.2.1/", Rule::Special),
    ("https://198.18.0.1/", Rule::Special),
    ("https://198.51.100.1/", Rule::Special),
    ("https://203.0.113.1/", Rule::Special),
    ("https://240.0.0.1/", Rule::Special),
    ("https://255.255.255.255/", Rule::Special),
    ("https://4294967295/", Rule::Special),
    ("https://[::ffff:0:127.0.0.1]/", Rule::Special),
    ("https://[100::1]/", Rule::Special),
    ("https://[100:0:0:1::1]/", Rule::Special),
    ("https://[2001:2::1]/", Rule::Special),
    ("https://[2001:db8::1]/", Rule::Special),
    ("https://[3fff::1]/", Rule::Special),
    ("https://[5f00::1]/", Rule::Special),
    ("https://[8000::1]/", Rule::Special),
];

#[tokio::test]
async fn each_of_these_urls_is_refused_by_its_rule() {
    let names = Names::new([&["8.8.8.8"]]);
    let door = Door::with(settings(), names.clone(), Sabotage::None).unwrap();
    for (url, rule) in REFUSED {
        assert_eq!(door.check(url).map_err(|refusal| refusal.rule()), Err(*rule), "{url}");
        let sent = door.send(TENANT, post(*url)).await;
        assert!(matches!(sent, Err(Failure::Refused(refusal)) if refusal.rule() == *rule), "{url}");
    }
    assert!(names.asked.lock().unwrap().is_empty(), "nothing was looked up");
}

#[tokio::test]
async fn a_url_has_an_end() {
    let door = door_to(&[]);
    let url = |length: usize| format!("https://example.com/{}", "a".repeat(length - 20));
    assert_eq!(door.check(&url(2048)).unwrap().as_str().len(), 2048);
    assert_eq!(door.check(&url(2049)).unwrap_err().rule(), Rule::Url);
}

#[tokio::test]
async fn no_spelling_of_this_machine_connects_to_it() {
    let server = Server::answering(OK).await;
    let port = server.address.port();
    let open = Settings { http: true, ports: vec![port], ..settings() };
    let door = Door::with(open.clone(), Names::new([&["127.0.0.1"]]), Sabotage::None).unwrap();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127。0。0。1",
        "0",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::1]",
        "[::]",
        "localhost",
        "a.localhost",
        "localhost.example.com",
    ];
    for host in hosts {
        let sent = door.send(TENANT, post(format!("http://{host}:{port}/"))).await;
        assert!(matches!(sent, Err(Failure::Refused(_))), "{host}: {sent:?}");
    }
    assert_eq!(server.accepted(), 0);

    let allow = vec![format!("127.0.0.1:{port}")];
    let door = Door::with(Settings { allow, ..open }, Names::new([]), Sabotage::None).unwrap();
    door.send(TENANT, post(format!("http://0x7f.1:{port}/"))).await.unwrap();
    assert_eq!(server.accepted(), 1, "the same server, when the operator allows it");
    let sent = door.send(TENANT, post(format!("http://127.0.0.2:{port}/"))).await;
    assert!(matches!(sent, Err(Failure::Refused(_))), "its neighbour is not allowed");
}

#[tokio::test]
async fn requests_that_would_open_tunnels_or_name_other_hosts_are_refused() {
    let server = Server::answering(OK).await;
    let door = door_to(&[&server]);
    let mut request = post(server.url());
    request.headers.insert("host", "vault.internal".parse().unwrap());
    let refusal = door.send(TENANT, request).await.unwrap_err();
    assert_eq!(refusal.to_string(), "the header `host` is set by Rapport itself; leave it out");

    let mut request = post(server.url());
    request.method = http::Method::CONNECT;
    let Failure::Refused(refusal) = door.send(TENANT, request).await.unwrap_err() else { panic!("a tunnel") };
    assert_eq!(refusal.rule(), Rule::Method);
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let with = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Door::with(settings, Names::new([]), Sabotage::None).err().map(|error| error.to_string())
    };
    assert_eq!(with(|_| {}), None);
    for (change, problem) in [
        (
            (|s| s.allow = vec!["*.corp.example".into()]) as fn(&mut Settings),
            "`egress.allow`: `*.corp.example` is not a host; hosts are written as `hooks.corp.example` or `10.1.2.3:8080`",
        ),
        (|s| s.timeout_ms = 0, "`egress.timeout_ms`: is 0; it is from 100 to 120000"),
        (|s| s.connect_timeout_ms = 10_001, "`egress.connect_timeout_ms`: is 10001; it is from 100 to 10000"),
        (|s| s.tenant_in_flight = 4, "`egress.tenant_in_flight`: is 4; it is from 1 to 3"),
        (|s| s.ports = vec![443, 0], "`egress.ports`: are from 1 to 65535"),
    ] {
        assert_eq!(with(change).as_deref(), Some(problem));
    }
    let missing = with(|s| s.roots_file = Some("/nowhere/ca.pem".into())).unwrap();
    assert!(missing.starts_with("`egress.roots_file`: `/nowhere/ca.pem` cannot be read"), "{missing}");
    let empty = with(|s| s.roots_file = Some("/dev/null".into())).unwrap();
    assert!(empty.ends_with("has no certificates; they are written as PEM"), "{empty}");
}

#[test]
fn settings_are_read_with_their_defaults() {
    let settings: Settings = toml::from_str(r#"allow = ["hooks.corp.example"]"#).unwrap();
    assert_eq!((settings.ports, settings.http, settings.timeout_ms), (vec![443], false, 10_000));
    toml::from_str::<Settings>("wildcard = true").unwrap_err();
}

#[tokio::test]
async fn http_to_public_hosts_is_the_operators_choice() {
    let server = Server::answering(OK).await;
    let door = door_outside(&server, &Names::new([]), Sabotage::None);
    let port = server.address.port();
    assert!(door.check(&format!("http://example.com:{port}/")).is_ok());
    assert_eq!(door.check("https://example.com/").unwrap_err().rule(), Rule::Port);
}
