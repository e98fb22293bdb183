//! A world with a webhook's receiver, and the calls that these tests make.
use rapport_kernel::Ctx;
use rapport_proto::events::v1::{
    CreateWebhookRequest, GetWebhookRequest, LedgerEntry, ListLedgerEntriesRequest, Webhook,
    ledger_service_client::LedgerServiceClient, webhook_service_client::WebhookServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};

use super::receiver::Receiver;
use crate::{
    note::change,
    world::{World, by},
};

/// A tenant whose events go to a receiver.
pub(crate) struct Hooked {
    pub(crate) world: World,
    pub(crate) ctx: Ctx,
    pub(crate) receiver: Receiver,
    pub(crate) webhooks: WebhookServiceClient<Routes>,
    pub(crate) ledger: LedgerServiceClient<Routes>,
    pub(crate) stop: CancellationToken,
}

impl Hooked {
    pub(crate) async fn new() -> Self {
        let (world, receiver) = (World::new().await, Receiver::start().await);
        let ctx = world.tenant();
        let (routes, stop) = world.serve(Some(receiver.door()), |events| events).await;
        let (webhooks, ledger) =
            (WebhookServiceClient::new(routes.clone()), LedgerServiceClient::new(routes));
        Self { world, ctx, receiver, webhooks, ledger, stop }
    }

    /// Kills what is at work, and begins again.
    pub(crate) async fn restart(&mut self) {
        self.stop.cancel();
        let (routes, stop) = self.world.serve(Some(self.receiver.door()), |events| events).await;
        self.webhooks = WebhookServiceClient::new(routes.clone());
        self.ledger = LedgerServiceClient::new(routes);
        self.stop = stop;
    }

    pub(crate) async fn create(
        &mut self,
        ctx: &Ctx,
        url: &str,
        start_after: Option<i64>,
    ) -> Result<(Webhook, String), Status> {
        let subjects = vec!["customer.>".to_owned()];
        let webhook = Webhook {
            display_name: "hook".into(),
            url: url.into(),
            start_after,
            subjects,
            ..Default::default()
        };
        let request = CreateWebhookRequest { webhook: Some(webhook), ..Default::default() };
        let made = self.webhooks.create_webhook(by(ctx, request)).await?.into_inner();
        Ok((made.webhook.unwrap(), made.secret))
    }

    pub(crate) async fn hook(&mut self) -> (Webhook, String) {
        let (ctx, url) = (self.ctx.clone(), self.receiver.url());
        self.create(&ctx, &url, None).await.unwrap()
    }

    pub(crate) async fn get(&mut self, webhook: &Webhook) -> Webhook {
        let request = GetWebhookRequest { id: webhook.id.clone(), ..Default::default() };
        self.webhooks.get_webhook(by(&self.ctx, request)).await.unwrap().into_inner()
    }

    pub(crate) async fn ledger(&mut self, filter: &str) -> Vec<LedgerEntry> {
        let request =
            ListLedgerEntriesRequest { filter: filter.into(), page_size: 200, ..Default::default() };
        self.ledger.list_ledger_entries(by(&self.ctx, request)).await.unwrap().into_inner().ledger_entries
    }

    pub(crate) async fn change(&self, id: uuid::Uuid, text: &str) {
        let mut tx = self.world.db.begin(&self.ctx).await.unwrap();
        change(&mut tx, id, text).await;
        tx.finish().await.unwrap();
    }
}
