//! An operator's own service hears Rapport's customers on the bus: each event has its effect once, in the order of its partition.
use std::{error::Error, time::Duration};

use async_nats::jetstream::{Context, Message, consumer::pull};
use futures::StreamExt as _;
use rapport_proto::events::v1::{GetLogHeadsRequest, ReadLogRequest, log_service_client::LogServiceClient};
use sqlx::{Connection as _, PgConnection};
use tonic::{Request, metadata::AsciiMetadataValue, transport::Channel};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Our tables: how far each of the 32 partitions was heard, and what we make of it.
pub const TABLES: &str = "
    CREATE TABLE watermarks (part integer PRIMARY KEY, number bigint NOT NULL);
    INSERT INTO watermarks SELECT generate_series(0, 31), 0;
    CREATE TABLE heard (event_id text, tenant_id text, record text, version bigint, type text, payload bytea);";

/// A service of ours that hears.
pub struct Ear {
    /// The bus, and the name of the service's stream there.
    pub bus: Context,
    pub stream: String,
    /// The service's log, for what the bus does not bring, and the secret by which services know each other.
    pub log: LogServiceClient<Channel>,
    pub secret: AsciiMetadataValue,
    /// Our database.
    pub db: PgConnection,
    /// The leader of the log, as the log itself says; 0 until it was asked.
    pub epoch: i64,
}

/// An event of a partition.
struct Event<'e> {
    number: i64,
    id: &'e str,
    tenant: &'e str,
    record: &'e str,
    version: i64,
    r#type: &'e str,
    payload: Option<&'e [u8]>,
}

impl Ear {
    /// Hears until something fails. Then begin again: nothing is lost, and nothing comes twice.
    pub async fn hear(mut self) -> Outcome {
        let stream = self.bus.get_stream(&self.stream).await?;
        let durable = pull::Config { durable_name: Some("erp".into()), ..pull::Config::default() };
        let mut messages = stream.get_or_create_consumer("erp", durable).await?.messages().await?;
        let mut ask = tokio::time::interval(Duration::from_secs(2));
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or("the bus brings nothing more")??;
                    self.take(&message).await?;
                    message.ack().await?; // After the commit: what is not acknowledged comes again.
                }
                _ = ask.tick() => self.ask().await?,
            }
        }
    }

    /// What the bus does not bring, it does not announce either: the log says where it stands.
    async fn ask(&mut self) -> Outcome {
        let heads = self.log.get_log_heads(self.request(GetLogHeadsRequest {})).await?.into_inner();
        for (part, head) in (0..).zip(heads.part_numbers) {
            self.read(part, head).await?;
        }
        Ok(())
    }

    async fn take(&mut self, message: &Message) -> Outcome {
        let part = message.subject.split('.').nth(2).ok_or("a subject that is none of Rapport's")?.parse()?;
        let headers = message.headers.as_ref().ok_or("a message without headers")?;
        let header = |name: &'static str| headers.get(name).map(|value| value.as_str()).ok_or(name);
        let number = header("ce-partnumber")?.parse()?;
        let at = self.watermark(part).await?;
        if number <= at {
            return Ok(()); // A repeat.
        }
        // A gap, another leader than the one that the log named, or a payload that is too large for the bus: the log has it.
        let doubtful = number > at + 1 || header("ce-epoch")?.parse() != Ok(self.epoch);
        if doubtful || headers.get("ce-tombstone").is_some() {
            return self.read(part, number).await;
        }
        let event = Event {
            number,
            id: header("ce-id")?,
            tenant: header("ce-tenant")?,
            record: header("ce-subject")?,
            version: header("ce-recordversion")?.parse()?,
            r#type: header("ce-type")?,
            payload: Some(&message.payload),
        };
        self.effect(part, event).await
    }

    /// Reads the log of a partition up to a number, as far as it goes.
    async fn read(&mut self, part: i32, to: i64) -> Outcome {
        loop {
            let after = self.watermark(part).await?;
            if after >= to {
                return Ok(());
            }
            let request = self.request(ReadLogRequest { part, after, page_size: 0 });
            let page = self.log.read_log(request).await?.into_inner();
            if page.dropped_to > after {
                return Err("the log does not go back so far: begin with a snapshot".into());
            }
            self.epoch = page.epoch;
            if page.lines.is_empty() {
                return Ok(()); // The log knows no such event: the message was none of its leader's.
            }
            for line in page.lines {
                let event = Event {
                    number: line.part_number,
                    id: &line.event_id,
                    tenant: &line.tenant_id,
                    record: &format!("customer.{}/{}", line.resource, line.record_id),
                    version: line.version,
                    r#type: &line.r#type,
                    payload: line.payload.as_deref(), // Nothing, once it was erased.
                };
                self.effect(part, event).await?;
            }
        }
    }

    async fn watermark(&mut self, part: i32) -> Outcome<i64> {
        let number = sqlx::query_scalar("SELECT number FROM watermarks WHERE part = $1").bind(part);
        Ok(number.fetch_one(&mut self.db).await?)
    }

    /// The effect and the watermark, in one transaction.
    async fn effect(&mut self, part: i32, event: Event<'_>) -> Outcome {
        let mut tx = self.db.begin().await?;
        let next = "UPDATE watermarks SET number = $2 WHERE part = $1 AND number = $2 - 1";
        if sqlx::query(next).bind(part).bind(event.number).execute(&mut *tx).await?.rows_affected() != 1 {
            return Err("another process hears the same".into());
        }
        // Here stands what your service does.
        sqlx::query("INSERT INTO heard VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(event.id)
            .bind(event.tenant)
            .bind(event.record)
            .bind(event.version)
            .bind(event.r#type)
            .bind(event.payload)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("rapport-service", AsciiMetadataValue::from_static("customer"));
        request.metadata_mut().insert("rapport-internal", self.secret.clone());
        request
    }
}
