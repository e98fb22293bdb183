//! Names that lead inside, also those that change their mind: nothing connects.
use std::sync::Arc;

use rapport_egress::{Answer, Door, Failure, Rule, Sabotage, Settings};

use crate::world::{Names, OK, Server, TENANT, door_outside, post, settings};

/// Public when it is looked at, this machine when it is called. Returns what came of the call, and how many connected.
async fn rebinding(sabotage: Sabotage) -> (Result<Answer, Failure>, usize) {
    let server = Server::answering(OK).await;
    let names = Names::new([&["93.184.215.14"], &["127.0.0.1"]]);
    let door = door_outside(&server, &names, sabotage);
    let url = format!("http://hooks.example.com:{}/", server.address.port());
    door.resolve_check(&url).await.unwrap();
    let sent = door.send(TENANT, post(url)).await;
    (sent, server.accepted())
}

#[tokio::test]
async fn a_name_that_was_public_when_it_was_checked_does_not_lead_inside() {
    let (sent, accepted) = rebinding(Sabotage::None).await;
    let Err(Failure::Refused(refusal)) = sent else { panic!("{sent:?}") };
    assert_eq!(refusal.rule(), Rule::Loopback);
    assert_eq!(
        refusal.to_string(),
        "`hooks.example.com` leads to an address of the machine itself; a name with public addresses is needed"
    );
    assert_eq!(accepted, 0);
}

#[tokio::test]
async fn rebinding_works_where_names_are_trusted() {
    let (sent, accepted) = rebinding(Sabotage::TrustName).await;
    assert_eq!((sent.unwrap().status.as_u16(), accepted), (200, 1), "the test above would notice");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_and_nothing_connects() {
    let server = Server::answering(OK).await;
    let url = format!("http://hooks.example.com:{}/", server.address.port());
    for (addresses, rule) in [
        (&["127.0.0.1"] as &[&str], Rule::Loopback),
        (&["::1"], Rule::Loopback),
        (&["::ffff:127.0.0.1"], Rule::Loopback),
        (&["0.0.0.0"], Rule::Unspecified),
        (&["::"], Rule::Unspecified),
        (&["93.184.215.14", "127.0.0.1"], Rule::Loopback),
        (&["127.0.0.1", "93.184.215.14"], Rule::Loopback),
        (&["2606:2800:220:1::1", "93.184.215.14", "10.0.0.5"], Rule::Private),
        (&["169.254.169.254"], Rule::Metadata),
        (&["fd00:ec2::254"], Rule::Metadata),
        (&["64:ff9b::7f00:1"], Rule::Embedded),
        (&["::127.0.0.1"], Rule::Embedded),
        (&["100.64.1.1"], Rule::Shared),
        (&["fe80::1"], Rule::LinkLocal),
    ] {
        let door = door_outside(&server, &Names::new([addresses]), Sabotage::None);
        let sent = door.send(TENANT, post(url.as_str())).await;
        assert!(
            matches!(&sent, Err(Failure::Refused(refusal)) if refusal.rule() == rule),
            "{addresses:?}: {sent:?}"
        );
        let failure = sent.unwrap_err();
        assert!(!failure.may_have_arrived());
        assert!(
            addresses.iter().all(|address| !failure.to_string().contains(address)),
            "addresses are not told"
        );
        assert_eq!(door.resolve_check(&url).await.unwrap_err().rule(), rule, "{addresses:?}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_connected() {
    let serve = |mut stream: tokio::net::TcpStream| async move {
        use tokio::io::AsyncWriteExt as _;
        crate::world::read_request(&mut stream).await;
        let _gone = stream.write_all(OK.as_bytes()).await;
    };
    let first = Server::at([127, 0, 0, 2].into(), 0, serve).await;
    let port = first.address.port();
    let second = Server::at([127, 0, 0, 3].into(), port, serve).await;
    let names = Names::new([&["127.0.0.2"], &["127.0.0.3"]]);
    let allow = vec![format!("hooks.corp.example:{port}")];
    let door = Door::with(Settings { allow, ..settings() }, names.clone(), Sabotage::None).unwrap();
    door.send(TENANT, post(format!("http://hooks.corp.example:{port}/"))).await.unwrap();
    assert_eq!(*names.asked.lock().unwrap(), ["hooks.corp.example"], "asked once");
    assert_eq!((first.accepted(), second.accepted()), (1, 0));
}

#[tokio::test]
async fn an_allowed_name_leads_inside_on_its_port_only_and_never_to_metadata() {
    let server = Server::answering(OK).await;
    let port = server.address.port();
    let door = |addresses: &[&str]| {
        let allow = vec!["hooks.example.com".into()];
        let settings = Settings { allow, http: true, ports: vec![port], ..settings() };
        Door::with(settings, Names::new([addresses]), Sabotage::None).unwrap()
    };
    let sent = door(&["127.0.0.1"]).send(TENANT, post(format!("http://hooks.example.com:{port}/"))).await;
    assert!(matches!(sent, Err(Failure::Refused(refusal)) if refusal.rule() == Rule::Loopback));
    assert_eq!(server.accepted(), 0, "this port is open for public hosts, which the name is not");

    let allowed = "https://hooks.example.com/";
    door(&["10.1.2.3"]).resolve_check(allowed).await.unwrap();
    let refusal = door(&["10.1.2.3", "169.254.169.254"]).resolve_check(allowed).await.unwrap_err();
    assert_eq!(refusal.rule(), Rule::Metadata);
}

#[tokio::test]
async fn names_of_the_outside_are_asked_for_without_a_search_list() {
    let server = Server::answering(OK).await;
    let names = Names::new([&["127.0.0.1"]]);
    let door = door_outside(&server, &names, Sabotage::None);
    let url = format!("http://Hooks.Example.com:{}/", server.address.port());
    door.resolve_check(&url).await.unwrap_err();
    door.send(TENANT, post(url)).await.unwrap_err();
    assert_eq!(*names.asked.lock().unwrap(), ["hooks.example.com.", "hooks.example.com."]);
}

#[tokio::test]
async fn a_name_without_address_is_no_connection() {
    let server = Server::answering(OK).await;
    for names in [Names::new([]), Names::new([&[]])] {
        let door = door_outside(&server, &Arc::clone(&names), Sabotage::None);
        let url = format!("http://hooks.example.com:{}/", server.address.port());
        assert_eq!(door.resolve_check(&url).await.unwrap_err().rule(), Rule::Unresolved);
        let failure = door.send(TENANT, post(url)).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "no connection: the name has no address, or name servers do not answer"
        );
        assert!(!failure.may_have_arrived());
    }
}

/// Against the machine's own resolver, which knows this name without asking anybody.
#[tokio::test]
async fn the_systems_resolver_is_asked() {
    let server = Server::answering(OK).await;
    let port = server.address.port();
    let allow = vec![format!("localhost:{port}")];
    let door = Door::new(Settings { allow, ..settings() }).unwrap();
    door.send(TENANT, post(format!("http://localhost:{port}/"))).await.unwrap();
    assert_eq!(server.accepted(), 1);
}
