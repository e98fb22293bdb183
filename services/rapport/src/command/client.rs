//! Calling an installation from outside, as its users do: by gRPC, with an API key.
use std::{fs, path::Path};

use rapport_kernel::BoxError;
use serde::Deserialize;
use tonic::{
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// Where an installation is, and as whom to call it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The installation's address; that of `rapport up` in this folder unless said
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,

    /// File that holds the API key; that of `rapport up` in this folder unless said
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<std::path::PathBuf>,

    /// The data folder of `rapport up`
    #[arg(long, value_name = "FOLDER", default_value = ".rapport")]
    pub data_dir: std::path::PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    url: String,
    api_key: String,
}

/// A connection that signs every call.
pub(super) type Called = InterceptedService<Channel, Key>;

/// Puts the API key on every call.
#[derive(Clone)]
pub(super) struct Key(MetadataValue<Ascii>);

impl Interceptor for Key {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Target {
    /// Connects with a tenant's key.
    pub(super) async fn connect(&self) -> Result<Called, BoxError> {
        let key = match &self.key_file {
            Some(file) => read(file)?,
            None => self.known()?.api_key,
        };
        self.connect_with(&key).await
    }

    /// Connects with the operator's key.
    pub(super) async fn connect_as_operator(&self) -> Result<Called, BoxError> {
        let file = self.key_file.clone().unwrap_or_else(|| self.data_dir.join(crate::up::OPERATOR_KEY));
        self.connect_with(&read(&file)?).await
    }

    async fn connect_with(&self, key: &str) -> Result<Called, BoxError> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => self.known()?.url,
        };
        let channel = Endpoint::from_shared(url.clone())?
            .connect()
            .await
            .map_err(|error| format!("nothing answers at {url} ({error}); is `rapport up` running?"))?;
        Ok(InterceptedService::new(channel, Key(format!("Bearer {}", key.trim()).parse()?)))
    }

    /// What `rapport up` wrote down.
    fn known(&self) -> Result<Known, BoxError> {
        let path = self.data_dir.join("demo.json");
        let json = fs::read(&path).map_err(|error| {
            format!(
                "{} cannot be read ({error}); say --url and --key-file, or start `rapport up` here",
                path.display()
            )
        })?;
        Ok(serde_json::from_slice(&json)?)
    }
}

fn read(file: &Path) -> Result<String, BoxError> {
    fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()).into())
}

/// A request to a service, where every service has the method.
pub(super) fn of<T>(service: &'static str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("rapport-service", MetadataValue::from_static(service));
    request
}
