//! Asks a mirror how it wants to be logged in to, the way containerd would reach it. Changes nothing anywhere.

use std::{sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri, body::Bytes, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::{
    observed::Asks,
    spec::{
        desired::Target,
        inputs::{CaBundle, ClientPair, Login},
    },
};

const DEADLINE: Duration = Duration::from_secs(5);

/// What a mirror answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How it asks for a login.
    pub asks: Asks,
    /// Whether it took ours; `None` when none was needed, or only its token server can say.
    pub login_accepted: Option<bool>,
}

/// What is needed to talk to a registry.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Scheme, host and port.
    pub url: String,
    /// Private CA.
    pub ca: Option<Arc<CaBundle>>,
    /// Client certificate.
    pub client: Option<Arc<ClientPair>>,
    /// Login.
    pub login: Option<Login>,
    /// Certificates are not checked.
    pub skip_verify: bool,
}

impl From<&Target> for Reach {
    fn from(target: &Target) -> Self {
        Self {
            url: format!("{}://{}", target.endpoint.scheme, target.endpoint.authority()),
            ca: target.ca.clone(),
            client: target.client.clone(),
            login: target.login.clone(),
            skip_verify: target.skip_verify,
        }
    }
}

/// Asks `GET /v2/`, without the login and then with it.
///
/// # Errors
/// When no answer came that a registry would give; a sentence.
pub async fn ask(reach: &Reach) -> Result<Answer, String> {
    let client = client(reach)?;
    let (status, challenge) = get(&client, &reach.url, None).await?;
    let asks = match (status, challenge.as_deref().map(str::to_ascii_lowercase)) {
        (StatusCode::UNAUTHORIZED, Some(challenge)) if challenge.starts_with("bearer") => Asks::Token,
        (StatusCode::UNAUTHORIZED, Some(challenge)) if challenge.starts_with("basic") => Asks::Basic,
        (StatusCode::UNAUTHORIZED, _) => return Err("it answers 401 without saying how to log in".into()),
        (status, _) if status.is_server_error() => return Err(format!("it answers {status}")),
        _ => Asks::Nothing,
    };
    let login_accepted = match (&reach.login, asks) {
        (Some(login), Asks::Basic) => Some(get(&client, &reach.url, Some(login)).await?.0.is_success()),
        _ => None,
    };
    Ok(Answer { asks, login_accepted })
}

type RegistryClient = Client<hyper_rustls::HttpsConnector<HttpConnector>, Empty<Bytes>>;

async fn get(client: &RegistryClient, url: &str, login: Option<&Login>) -> Result<(StatusCode, Option<String>), String> {
    let uri: Uri = format!("{url}/v2/").parse().map_err(|error| format!("{url} is no URL: {error}"))?;
    let mut request = Request::get(uri);
    if let Some(login) = login {
        request = request.header(header::AUTHORIZATION, login.basic_header().expose_secret());
    }
    let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
    let response = match timeout(DEADLINE, client.request(request)).await {
        Err(_) => return Err(format!("no answer within {} s", DEADLINE.as_secs())),
        Ok(Err(error)) => return Err(chain(&error)),
        Ok(Ok(response)) => response,
    };
    let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((response.status(), challenge))
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
        source = cause.source();
    }
    texts.join(": ")
}

fn client(reach: &Reach) -> Result<RegistryClient, String> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls(reach)?).https_or_http().enable_http1().wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https))
}

fn tls(reach: &Reach) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = if reach.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(reach.ca.as_deref())?)
    };
    match &reach.client {
        None => Ok(builder.with_no_client_auth()),
        Some(pair) => {
            let pem = pair.pem();
            let chain = CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| format!("client certificate: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("client key: {error}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("client certificate: {error}"))
        }
    }
}

/// The system's roots, and the private CA beside them, as containerd does it.
fn roots(ca: Option<&CaBundle>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(ca.map(CaBundle::pem).unwrap_or_default().as_bytes()) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// `skipVerify: true`: the operator asked for it, and containerd will do the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
