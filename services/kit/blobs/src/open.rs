//! Opening the place where files are kept.
use std::{fmt, path::PathBuf, sync::Arc};

use object_store::{ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, path::Path};
use rapport_kernel::{BoxError, Clock, Error};
use url::Url;

use crate::{Archive, Blobs, unfinished};

/// Where files are kept.
#[derive(Clone, Default)]
pub struct Settings {
    /// A folder, `file:///var/lib/rapport/blobs`, or `s3://bucket/prefix`.
    pub url: String,
    /// For S3: the server, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// For S3: the region.
    pub region: Option<String>,
    /// For S3: the key's id; from the machine's role when there is none.
    pub access_key_id: Option<String>,
    /// For S3: the key's secret.
    pub secret_access_key: Option<String>,
    /// For S3: whether the endpoint may be plain http.
    pub allow_http: bool,
}

impl fmt::Debug for Settings {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Blobs {
    /// Opens the place that `settings` name. A folder is made where it is missing, tried, and rid of what was never finished.
    ///
    /// # Errors
    /// `Rule` with the reason `STORAGE_UNUSABLE` when files cannot be kept there; the text names the place and why.
    pub async fn open(settings: &Settings, clock: &Clock) -> Result<Self, Error> {
        let now = clock.now();
        let (store, root) = open(settings, move |folder| unfinished::remove(folder, now)).await?;
        Ok(Self::new(store, root))
    }
}

impl Archive {
    /// Opens the place that `settings` name. A folder is made where it is missing, and tried.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let (store, root) = open(settings, |_| {}).await?;
        Ok(Self::new(store, root))
    }
}

/// The store and the path within it. `tidy` gets the folder, where it is one.
async fn open(
    settings: &Settings,
    tidy: impl FnOnce(&std::path::Path) + Send + 'static,
) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let url = Url::parse(&settings.url).map_err(|error| unusable(&settings.url, error))?;
    match url.scheme() {
        "file" => {
            let folder = url.to_file_path().map_err(|()| {
                unusable(&settings.url, "a folder is named as `file:///var/lib/rapport/blobs`")
            })?;
            let root = folder.clone();
            tokio::task::spawn_blocking(move || prepare(&root).map(|()| tidy(&root)))
                .await
                .map_err(Error::internal)?
                .map_err(|error| unusable(&folder.display().to_string(), error))?;
            let store = LocalFileSystem::new_with_prefix(&folder)
                .map_err(|error| unusable(&folder.display().to_string(), error))?
                .with_fsync(true);
            Ok((Arc::new(store), Path::default()))
        }
        "s3" => {
            let root = Path::from_url_path(url.path()).map_err(|error| unusable(&settings.url, error))?;
            Ok((s3(settings, &url)?, root))
        }
        other => Err(unusable(&settings.url, format!("`{other}` is not known; there are `file` and `s3`"))),
    }
}

fn s3(settings: &Settings, url: &Url) -> Result<Arc<dyn ObjectStore>, Error> {
    let bucket =
        url.host_str().ok_or_else(|| unusable(&settings.url, "a bucket is named as `s3://bucket/prefix`"))?;
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_allow_http(settings.allow_http);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    match (&settings.access_key_id, &settings.secret_access_key) {
        (Some(id), Some(secret)) => builder = builder.with_access_key_id(id).with_secret_access_key(secret),
        (None, None) => {}
        _ => return Err(unusable(&settings.url, "a key has an id and a secret; only one of them is set")),
    }
    Ok(Arc::new(builder.build().map_err(|error| unusable(&settings.url, error))?))
}

/// Makes the folder, and tries whether files can be written to it.
fn prepare(folder: &PathBuf) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Two processes may open the same folder at once.
    let trial = folder.join(format!(".trial-{}", std::process::id()));
    std::fs::write(&trial, b"rapport")?;
    std::fs::remove_file(&trial)
}

fn unusable(place: &str, cause: impl Into<BoxError>) -> Error {
    Error::rule("STORAGE_UNUSABLE", format!("files cannot be kept in `{place}`: {}", cause.into()))
}
