//! A service-account key, which gcr.io takes as the password of the user `_json_key`.

use super::{
    super::{codes, problem::Problem},
    Login, parse_json,
};

const USER: &str = "_json_key";
/// What a key of this kind must hold.
const NEEDED: [&str; 2] = ["client_email", "private_key"];

/// The content of `gcrKeyPath`.
#[derive(Debug, Clone)]
pub struct ServiceAccountKey {
    login: Login,
}

impl ServiceAccountKey {
    /// Reads a key file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let key = parse_json(bytes)?;
        let text = |name: &str| key.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        if text("type") != "service_account" {
            return Err(wrong("this is not a service-account key: its type is not service_account".to_owned()));
        }
        if let Some(missing) = NEEDED.into_iter().find(|name| text(name).is_empty()) {
            return Err(wrong(format!("this service-account key has no {missing}")));
        }
        // On one line the key is as good, and no control character is in it.
        Ok(Self { login: Login::new(USER, &key.to_string())? })
    }

    /// The login the key stands for.
    #[must_use]
    pub fn into_login(self) -> Login {
        self.login
    }
}

fn wrong(message: String) -> Problem {
    Problem::new(codes::SERVICE_ACCOUNT, message, "create a JSON key of a service account that may read the images, and name that file")
}
