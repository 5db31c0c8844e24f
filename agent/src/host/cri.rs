//! The CRI: is it there, and pull this image.

use std::{collections::BTreeMap, time::Duration};

use mirrorlet_proto::cri::{
    AuthConfig, ImageSpec, ImageStatusRequest, PullImageRequest, StatusRequest, VersionRequest, image_service_client::ImageServiceClient,
    runtime_service_client::RuntimeServiceClient,
};
use secrecy::ExposeSecret;
use tonic::{Request, Status, transport::Channel};

use crate::spec::inputs::Login;

const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// The CRI is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// A call failed.
    #[error("the CRI does not answer {call}: {} ({:?})", .status.message(), .status.code())]
    Silent {
        /// The call.
        call: &'static str,
        /// Its status.
        status: Box<Status>,
    },
    /// It answers that it is not ready.
    #[error("the CRI says that its runtime is not ready: {0}")]
    NotReady(String),
}

/// A login for one pull, and the only host it is sent to, with its scheme: without one it would be sent to no host at all (LAB.md 4).
#[derive(Debug, Clone)]
pub struct PullLogin {
    /// User and password.
    pub login: Login,
    /// `https://HOST[:PORT]`.
    pub host_url: String,
}

/// What a pulled image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Config digest.
    pub id: String,
    /// NAME@DIGEST.
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size: u64,
}

/// A client of the CRI on containerd's channel.
#[derive(Debug, Clone)]
pub struct Cri {
    channel: Channel,
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_DEADLINE);
    request
}

fn silent(call: &'static str) -> impl FnOnce(Status) -> CriError {
    move |status| CriError::Silent { call, status: Box::new(status) }
}

impl Cri {
    /// On this channel.
    #[must_use]
    pub const fn on(channel: Channel) -> Self {
        Self { channel }
    }

    /// Version and Status succeed, and the runtime is ready. A unit that is active says nothing of this (LAB.md finding 3).
    ///
    /// # Errors
    /// When the CRI does not answer, or is not ready.
    pub async fn check(&self) -> Result<(), CriError> {
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        client.version(request(VersionRequest { version: "v1".into() })).await.map_err(silent("Version"))?;
        let answer = client.status(request(StatusRequest { verbose: false })).await.map_err(silent("Status"))?.into_inner();
        let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
        match conditions.into_iter().find(|condition| condition.r#type == "RuntimeReady" && !condition.status) {
            Some(condition) => Err(CriError::NotReady(format!("{} {}", condition.reason, condition.message))),
            None => Ok(()),
        }
    }

    /// `registry.mirrors` of the running process, where its Status shows them (1.x); of all it shows, nothing else is looked at, because
    /// logins are among it.
    ///
    /// # Errors
    /// When the CRI does not answer.
    pub async fn mirrors(&self) -> Result<Option<BTreeMap<String, Vec<String>>>, CriError> {
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        let answer = client.status(request(StatusRequest { verbose: true })).await.map_err(silent("Status"))?.into_inner();
        let config = answer.info.get("config").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let Some(registry) = config.as_ref().and_then(|config| config.get("registry")) else { return Ok(None) };
        let mirrors = registry.get("mirrors").and_then(serde_json::Value::as_object).into_iter().flatten();
        let endpoints = |mirror: &serde_json::Value| mirror.get("endpoint").and_then(|list| serde_json::from_value(list.clone()).ok());
        Ok(Some(mirrors.map(|(name, mirror)| (name.clone(), endpoints(mirror).unwrap_or_default())).collect()))
    }

    /// Pulls. The answer is the image id. Ends when containerd ends it, or when the future is dropped.
    ///
    /// # Errors
    /// containerd's own status.
    pub async fn pull(&self, reference: &str, login: Option<&PullLogin>) -> Result<String, Status> {
        let auth = login.map(|login| AuthConfig {
            username: login.login.username.clone(),
            password: login.login.password.expose_secret().to_owned(),
            server_address: login.host_url.clone(),
            ..AuthConfig::default()
        });
        let message = PullImageRequest { image: Some(ImageSpec { image: reference.to_owned(), ..ImageSpec::default() }), auth };
        Ok(ImageServiceClient::new(self.channel.clone()).pull_image(message).await?.into_inner().image_ref)
    }

    /// What is known of an image here; `None` when it is not here.
    ///
    /// # Errors
    /// When the CRI does not answer.
    pub async fn image(&self, name: &str) -> Result<Option<PulledImage>, CriError> {
        let message = ImageStatusRequest { image: Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() }), verbose: false };
        let answer = ImageServiceClient::new(self.channel.clone()).image_status(request(message)).await.map_err(silent("ImageStatus"))?;
        Ok(answer.into_inner().image.map(|image| PulledImage { id: image.id, repo_digests: image.repo_digests, size: image.size }))
    }
}
