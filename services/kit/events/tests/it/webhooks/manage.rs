//! What their makers decide: secrets, ranges that are sent again, where they lead, and what they may see.
use std::{collections::BTreeSet, time::Duration};

use rapport_egress::Door;
use rapport_kernel::{Ctx, FieldRights};
use rapport_proto::events::v1::{
    ReplayWebhookRequest, RotateWebhookSecretRequest, ledger_service_client::LedgerServiceClient,
    webhook_service_client::WebhookServiceClient,
};
use tonic::Code;

use super::{hooked::Hooked, receiver::Message};
use crate::{note::create, world::by};

#[tokio::test(flavor = "multi_thread")]
async fn secrets_change_over_and_ranges_are_sent_again() {
    let mut hooked = Hooked::new().await;
    let (webhook, old) = hooked.hook().await;
    create(&hooked.world.db, &hooked.ctx, &["a", "b", "c"]).await;
    hooked.receiver.gets(2..=4).await;
    let id = webhook.id.clone();
    let request = RotateWebhookSecretRequest { id: id.clone(), overlap_hours: Some(1), ..Default::default() };
    let new =
        hooked.webhooks.rotate_webhook_secret(by(&hooked.ctx, request)).await.unwrap().into_inner().secret;
    assert_ne!(old, new);
    create(&hooked.world.db, &hooked.ctx, &["both"]).await;
    let came = hooked.receiver.gets([6]).await;
    let both = came.last().unwrap();
    assert!(both.is_signed_with(&old) && both.is_signed_with(&new));
    hooked.world.later(3_700);
    create(&hooked.world.db, &hooked.ctx, &["one"]).await;
    let came = hooked.receiver.gets([7]).await;
    let one = came.last().unwrap();
    assert!(!one.is_signed_with(&old) && one.is_signed_with(&new));

    let count = came.len();
    let request =
        ReplayWebhookRequest { id: id.clone(), first_after: 1, last_number: 4, ..Default::default() };
    hooked.webhooks.replay_webhook(by(&hooked.ctx, request)).await.unwrap();
    for _ in 0..500 {
        if hooked.receiver.came().len() == count + 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let came = hooked.receiver.came();
    assert_eq!(came[count..].iter().map(Message::number).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(came[count].id, came[0..count].iter().find(|m| m.number() == 2).unwrap().id);
    for (first_after, last_number) in [(4, 4), (0, 99)] {
        let request = ReplayWebhookRequest { id: id.clone(), first_after, last_number, ..Default::default() };
        let refused = hooked.webhooks.replay_webhook(by(&hooked.ctx, request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_inside_and_nothing_that_its_maker_may_not_see() {
    let mut hooked = Hooked::new().await;
    let ctx = hooked.ctx.clone();
    let port = hooked.receiver.address.port();
    for (url, rule) in [
        (format!("http://127.0.0.1:{}/hook", port ^ 1), "EGRESS_SCHEME"),
        ("https://127.1/hook".into(), "EGRESS_LOOPBACK"),
        ("https://0x7f000001/hook".into(), "EGRESS_LOOPBACK"),
        ("https://10.0.0.1/hook".into(), "EGRESS_PRIVATE"),
        ("https://169.254.169.254/latest/meta-data".into(), "EGRESS_METADATA"),
        ("https://[::1]/hook".into(), "EGRESS_LOOPBACK"),
        ("ftp://example.com/".into(), "EGRESS_SCHEME"),
        ("https://user:password@example.com/".into(), "EGRESS_CREDENTIALS"),
    ] {
        let refused = hooked.create(&ctx, &url, None).await.unwrap_err();
        let details = String::from_utf8_lossy(refused.details()).into_owned();
        assert!(details.contains(rule), "{url}: {refused:?}");
    }
    let ahead = hooked.create(&ctx, &hooked.receiver.url(), Some(7)).await.unwrap_err();
    assert!(ahead.message().contains("the last number so far is 0"), "{ahead}");

    // A rule that came later, as when a name changes its address, refuses at the time of sending, and says so.
    let (webhook, _) = hooked.hook().await;
    hooked.stop.cancel();
    let shut = Door::new(rapport_egress::Settings::default()).unwrap();
    let (routes, stop) = hooked.world.serve(Some(shut), |events| events).await;
    (hooked.ledger, hooked.stop) = (LedgerServiceClient::new(routes.clone()), stop);
    hooked.webhooks = WebhookServiceClient::new(routes);
    create(&hooked.world.db, &ctx, &["a"]).await;
    let mut refused = Vec::new();
    for _ in 0..500 {
        refused = hooked.ledger("outcome == \"failed\"").await;
        if !refused.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refused[0].reason, "EGRESS_SCHEME");
    assert!(hooked.receiver.came().is_empty());
    hooked.restart().await;

    // Fields that its maker may not read are not in what it sends.
    let hidden = ("customer.customer".to_owned(), ["display_name".to_owned()].into());
    let rights = FieldRights { hidden: [hidden].into(), ..Default::default() };
    let limited = Ctx { field_rights: rights.into(), ..ctx.clone() };
    let url = hooked.receiver.url();
    hooked.create(&limited, &url, Some(0)).await.unwrap();
    create(&hooked.world.db, &ctx, &["secret"]).await;
    hooked.world.later(600);
    tokio::time::sleep(Duration::from_secs(1)).await;
    hooked.receiver.gets([2, 4]).await;
    let by_limited: Vec<_> = hooked.receiver.came().into_iter().filter(|m| m.text().is_none()).collect();
    assert_eq!(by_limited.iter().map(Message::number).collect::<BTreeSet<_>>(), [2, 4].into());
    let _ = webhook;
    hooked.stop.cancel();
}
