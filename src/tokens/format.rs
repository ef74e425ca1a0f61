//! A bootstrap token and its Secret in the target, as `kubeadm token create` makes it
//! (kubeadm `apis/bootstraptoken/v1`, `bootstraptokenhelpers.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroizing;

/// Namespace of bootstrap tokens.
pub const NAMESPACE: &str = "kube-system";
/// Type of a bootstrap token's Secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Group of the tokens that node pools hand out: it may ask for a certificate and nothing else.
pub const NODE_POOL_GROUP: &str = "system:bootstrappers:seedbed:node-pool";
/// Group of tokens for `kubeadm join` (kubeadm's `NodeBootstrapTokenAuthGroup`).
pub const KUBEADM_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Characters of a token's public half.
pub const ID_LENGTH: usize = 6;
/// Characters of its secret half.
pub const SECRET_LENGTH: usize = 16;

const EXPIRATION: &str = "expiration";

/// A bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: Zeroizing<String>,
}

/// A text is not a token. Never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a bootstrap token; one has 6 and 16 lower-case letters and digits around a dot")]
pub struct TokenError;

impl Token {
    /// A token of its two halves.
    pub fn new(id: &str, secret: &str) -> Result<Self, TokenError> {
        let plain = |text: &str, length: usize| {
            text.len() == length
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if !plain(id, ID_LENGTH) || !plain(secret, SECRET_LENGTH) {
            return Err(TokenError);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        })
    }

    /// The public half, which names its Secret and its user.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = String::with_capacity(ID_LENGTH + 1 + SECRET_LENGTH);
        text.push_str(&self.id);
        text.push('.');
        text.push_str(&self.secret);
        Zeroizing::new(text)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (id, secret) = text.split_once('.').ok_or(TokenError)?;
        Self::new(id, secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

/// Name of the Secret of the token with this id.
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// The user that a request with this token comes from (`BootstrapUserPrefix`).
pub fn user_name(id: &str) -> String {
    format!("system:bootstrap:{id}")
}

/// The token id in such a user's name.
pub fn id_of_user(user: &str) -> Option<&str> {
    user.strip_prefix("system:bootstrap:")
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose<'a> {
    /// For people; may be empty.
    pub description: &'a str,
    pub group: &'a str,
    /// Whether `cluster-info` is signed with it, as stock `kubeadm join` needs.
    pub signing: bool,
}

/// The Secret of a token. Expiration is of whole seconds, in UTC.
pub fn secret(token: &Token, expires: Timestamp, purpose: Purpose<'_>) -> Secret {
    let mut data = BTreeMap::from([
        ("token-id", token.id.as_bytes().to_vec()),
        ("token-secret", token.secret.as_bytes().to_vec()),
        (EXPIRATION, spelt(expires).into_bytes()),
        ("usage-bootstrap-authentication", b"true".to_vec()),
        ("auth-extra-groups", purpose.group.as_bytes().to_vec()),
    ]);
    if purpose.signing {
        data.insert("usage-bootstrap-signing", b"true".to_vec());
    }
    if !purpose.description.is_empty() {
        data.insert("description", purpose.description.as_bytes().to_vec());
    }
    let data = data.into_iter();
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(&token.id)),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(
            data.map(|(key, value)| (key.to_owned(), ByteString(value)))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// What the target has of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// `None`: never, or unreadable.
    pub expires: Option<Timestamp>,
    /// Everything but the expiration is as it was made.
    pub intact: bool,
}

/// Compares a Secret of the target with what it should be.
pub fn live(found: &Secret, token: &Token, purpose: Purpose<'_>) -> Live {
    let wanted = secret(token, Timestamp::UNIX_EPOCH, purpose);
    let without_expiration = |secret: &Secret| {
        let mut data = secret.data.clone().unwrap_or_default();
        data.remove(EXPIRATION);
        data
    };
    let expires = found.data.as_ref().and_then(|data| data.get(EXPIRATION));
    let expires = expires.and_then(|text| std::str::from_utf8(&text.0).ok()?.parse().ok());
    Live {
        expires,
        intact: found.type_ == wanted.type_
            && without_expiration(found) == without_expiration(&wanted),
    }
}

/// RFC 3339 in UTC without fractions, as Go writes it.
pub fn spelt(at: Timestamp) -> String {
    whole_seconds(at).to_string()
}

/// The time without its fraction.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_tokens_and_none_is_shown() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(abcdef)");
        assert_eq!(*token.reveal(), "abcdef.0123456789abcdef");
        for wrong in [
            "",
            "abcdef",
            "abcde.0123456789abcdef",
            "abcdef.0123456789abcdeF",
            "abcdef.0123456789abcdef0",
            "abc-ef.0123456789abcdef",
        ] {
            let error = wrong.parse::<Token>().unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn whatever_is_changed_in_a_token_is_seen() {
        let token = Token::new("abcdef", "0123456789abcdef").unwrap();
        let purpose = Purpose {
            description: "w-1",
            group: NODE_POOL_GROUP,
            signing: false,
        };
        let at: Timestamp = "2026-01-01T00:00:00.75Z".parse().unwrap();
        let made = secret(&token, at, purpose);
        let seen = live(&made, &token, purpose);
        assert_eq!(seen.expires, "2026-01-01T00:00:00Z".parse().ok());
        assert!(seen.intact);
        for key in ["token-secret", "auth-extra-groups", "description"] {
            let mut changed = made.clone();
            let data = changed.data.as_mut().unwrap();
            data.insert(key.to_owned(), ByteString(b"other".to_vec()));
            assert!(!live(&changed, &token, purpose).intact, "{key}");
        }
        let mut lasting = made.clone();
        lasting.data.as_mut().unwrap().remove(EXPIRATION);
        assert_eq!(live(&lasting, &token, purpose).expires, None);
    }
}
