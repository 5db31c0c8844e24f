//! The token side of a registry login: a small HTTP server in the lab's network that checks user and password (GET with Basic,
//! or the POSTed form) and signs what docker-registry accepts. Without a login it gives a token that allows nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::ca::{Ca, Identity};
use super::cri::Login;
use super::netns::{self, Netns};
use super::registry::TokenIssuer;

const ISSUER: &str = "lab-tokens";
const LIFETIME: u64 = 300;

/// A token somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// GET or POST.
    pub method: String,
    /// Who asked; `None` without a login.
    pub user: Option<String>,
    /// For what, as asked: `repository:lib/app:pull`.
    pub scopes: Vec<String>,
    /// 200, or 401 for a wrong login.
    pub status: u16,
}

/// A token server that runs until it is dropped.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    authority: String,
    desk: Arc<Desk>,
    server: Option<JoinHandle<()>>,
}

/// What the threads of a server share.
#[derive(Debug)]
struct Desk {
    signer: Identity,
    logins: Vec<Login>,
    requests: Mutex<Vec<TokenRequest>>,
    closed: AtomicBool,
}

impl TokenServer {
    /// Listens at `ADDRESS:PORT` in the lab's network.
    pub fn start(netns: &Arc<Netns>, ca: &Ca, address: &str, logins: Vec<Login>) -> Self {
        let address = address.parse().unwrap_or_else(|_| panic!("{address} is not ADDRESS:PORT"));
        let desk = Desk { signer: ca.issue(&["tokens.lab"]), logins, requests: Mutex::default(), closed: AtomicBool::new(false) };
        let desk = Arc::new(desk);
        let listener = netns.enter(|| TcpListener::bind(address)).unwrap_or_else(|error| panic!("no token server at {address}: {error}"));
        let (inside, path) = (Arc::clone(&desk), netns.path());
        let server = thread::spawn(move || {
            netns::join(&path);
            serve(&listener, &inside);
        });
        Self { address, authority: ca.certificate().to_owned(), desk, server: Some(server) }
    }

    /// What a registry needs to know of it.
    pub fn issuer(&self, service: &str) -> TokenIssuer {
        let realm = format!("http://{}/token", self.address);
        TokenIssuer { realm, service: service.to_owned(), issuer: ISSUER.to_owned(), authority: self.authority.clone() }
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.desk.requests.lock().map(|requests| requests.clone()).unwrap_or_default()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Relaxed);
        self.server.take().map(JoinHandle::join);
    }
}

fn serve(listener: &TcpListener, desk: &Arc<Desk>) {
    listener.set_nonblocking(true).unwrap_or_else(|error| panic!("no token server: {error}"));
    while !desk.closed.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            let desk = Arc::clone(desk);
            thread::spawn(move || answer(stream, &desk));
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One request a connection.
fn answer(mut stream: TcpStream, desk: &Desk) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = Question::read(&mut stream)?;
    let (status, body) = desk.decide(&request);
    let reason = if status == 200 { "OK" } else { "Unauthorized" };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).ok()
}

/// A request for a token, whichever way it came.
struct Question {
    method: String,
    login: Option<Login>,
    service: String,
    scopes: Vec<String>,
}

impl Question {
    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut basic, mut length) = (None, 0);
        for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ")?;
            match name.to_ascii_lowercase().as_str() {
                "authorization" => basic = login_of(value),
                "content-length" => length = value.parse().ok()?,
                _ => {}
            }
        }
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body).ok()?;
        let pairs = form(if method == "POST" { &body } else { target.split_once('?').map_or("", |(_, query)| query) });
        Some(Self::from_form(method, basic, &pairs))
    }

    fn from_form(method: String, basic: Option<Login>, pairs: &[(String, String)]) -> Self {
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let posted = value("username").zip(value("password")).map(|(user, password)| Login { user, password });
        let asked = pairs.iter().filter(|(key, _)| key == "scope");
        let scopes = asked.flat_map(|(_, scopes)| scopes.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        Self { method, login: basic.or(posted), service: value("service").unwrap_or_default(), scopes }
    }
}

impl Desk {
    fn decide(&self, question: &Question) -> (u16, Value) {
        let known = |login: &Login| self.logins.iter().any(|known| known.user == login.user && known.password == login.password);
        let status = if question.login.as_ref().is_none_or(known) { 200 } else { 401 };
        let user = question.login.as_ref().map(|login| login.user.clone());
        let request = TokenRequest { method: question.method.clone(), user, scopes: question.scopes.clone(), status };
        self.requests.lock().map(|mut requests| requests.push(request)).ok();
        if status == 401 {
            return (401, json!({ "details": "wrong login" }));
        }
        let token = self.sign(question);
        (200, json!({ "token": token, "access_token": token, "expires_in": LIFETIME }))
    }

    fn sign(&self, question: &Question) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let access: Vec<_> = question.scopes.iter().filter(|_| question.login.is_some()).filter_map(|scope| grant(scope)).collect();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.signer.certificate_der)] });
        let claims = json!({
            "iss": ISSUER, "aud": question.service, "sub": question.login.as_ref().map_or("", |login| &login.user),
            "iat": now, "nbf": now - 10, "exp": now + LIFETIME, "jti": format!("{now}"), "access": access,
        });
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.signer.key_der, &random);
        let signature = key.unwrap_or_else(|error| panic!("bad signing key: {error}")).sign(&random, text.as_bytes());
        let signature = signature.unwrap_or_else(|error| panic!("cannot sign: {error}"));
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// `repository:lib/app:pull,push` as the claim that allows it.
fn grant(scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
}

fn login_of(authorization: &str) -> Option<Login> {
    let text = String::from_utf8(STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| Login::new(user, password))
}

fn form(text: &str) -> Vec<(String, String)> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.to_owned(), unescape(value))).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = (byte == b'%').then(|| [rest.next(), rest.next()].into_iter().flatten().map(char::from).collect::<String>());
        let decoded = escaped.and_then(|hex| u8::from_str_radix(&hex, 16).ok());
        bytes.push(decoded.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
