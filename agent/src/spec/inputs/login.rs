//! User and password.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};

use super::super::{codes, problem::Problem};

/// A login that can be sent as HTTP Basic and written to every file we write.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user; not empty, no colon, no control character.
    pub username: String,
    /// The password; no control character.
    pub password: SecretString,
}

impl Login {
    /// Checks both. The password is not repeated in any message.
    pub fn new(username: &str, password: &str) -> Result<Self, Problem> {
        let wrong_user = |message| Err(Problem::new(codes::LOGIN_USER, message, "correct the user name"));
        if username.is_empty() {
            return wrong_user("the user name is empty");
        }
        if username.contains(':') {
            return wrong_user("the user name has a colon, which ends a user name in a login");
        }
        if username.chars().any(char::is_control) {
            return wrong_user("the user name has a control character");
        }
        if password.chars().any(char::is_control) {
            let remedy = "write it again without a line end or other control character";
            return Err(Problem::new(codes::LOGIN_PASSWORD, "the password has a control character", remedy));
        }
        Ok(Self { username: username.to_owned(), password: password.into() })
    }

    /// The value of an `Authorization` header.
    #[must_use]
    pub fn basic_header(&self) -> SecretString {
        let pair = format!("{}:{}", self.username, self.password.expose_secret());
        format!("Basic {}", BASE64_STANDARD.encode(pair)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_known_one() {
        let login = Login::new("Aladdin", "open sesame").unwrap();
        assert_eq!(login.basic_header().expose_secret(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{login:?}").contains("sesame"));
    }

    #[test]
    fn a_password_may_hold_quotes_and_colons_but_no_line_end() {
        assert!(Login::new("user", "a:\"b'\\é ").is_ok());
        assert!(Login::new("user", "").is_ok());
        assert!(Login::new("user", "hunter2\n").is_err());
    }
}
