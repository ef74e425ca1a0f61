//! Why a certificate signing request is not granted. Pure.

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal)+) => {
        /// Why a request is refused: the reason of its `Denied` condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Refusal { $($(#[doc = $doc])+ $name,)+ }

        impl Refusal {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as the condition spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The sentence for people. Names nothing that the request says.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

refusals! {
    /// Another signer than the one of kubelets' certificates.
    WrongSigner = "a machine's token is for client certificates of kubelets only"
    /// The groups are not those of such a token.
    WrongGroups = "the request does not come with exactly the groups of a machine's token"
    /// Other usages.
    WrongUsages = "the usages are not those of a kubelet's certificate"
    /// Not one PEM certificate request.
    Unreadable = "the request is not a PKCS#10 certificate request in PEM"
    /// The signature does not fit the key.
    WrongSignature = "the request is not signed with its own key"
    /// A weak or unknown kind of key.
    WrongKey = "the key is neither ECDSA on P-256 or P-384 nor RSA of 2048 to 8192 bits"
    /// The subject is not `O=system:nodes, CN=system:node:<name>`.
    WrongSubject = "the subject is not exactly the organization system:nodes and a common name system:node:<name>"
    /// Alternative names in a client certificate.
    AlternativeNames = "a kubelet's client certificate has no alternative names"
    /// Any other extension.
    Extensions = "the request asks for extensions"
    /// Not the machine that the token is for.
    OtherMachine = "the token belongs to another machine"
    /// Not the name of the kubelet that asks.
    OtherName = "a kubelet may ask for its own name only"
    /// The token has been used.
    SecondUse = "the token has been used: one token grants one request"
    /// The token has expired, or was replaced and taken away.
    TokenExpired = "the token has expired"
    /// No pool knows the token.
    UnknownToken = "no node pool has this token"
    /// A Node of this name is there.
    NodeExists = "a Node of this name exists; delete it before its machine joins again"
    /// The machine is not in use by its pool.
    NotWanted = "the machine is not among those that its node pool uses"
    /// The name is a control-plane machine's, or a listed machine's.
    NameTaken = "the name belongs to a machine that is listed elsewhere"
    /// The open pool has its number of Nodes.
    PoolFull = "the node pool has as many Nodes as spec.maxNodes allows"
    /// A serving certificate for a name or address that is not the Node's.
    UnknownAddress = "a serving certificate is for the Node's own name and addresses only"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_of_their_own() {
        let words: std::collections::BTreeSet<&str> = Refusal::ALL
            .iter()
            .map(|refusal| refusal.as_str())
            .collect();
        assert_eq!(words.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().all(|refusal| refusal.text().len() > 20));
    }
}
