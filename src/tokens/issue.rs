//! New tokens: the only random material of this room.

use aws_lc_rs::rand::fill;
use zeroize::Zeroizing;

use super::format::{ID_LENGTH, SECRET_LENGTH, Token};

/// The system gave no random numbers, or none that make a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandom;

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// The largest multiple of 36 that a byte reaches: what lies above would make some letters likelier.
const FAIR: u8 = 252;

/// A token that nobody can guess (kubeadm `GenerateBootstrapToken`).
pub fn issue() -> Result<Token, NoRandom> {
    let (id, secret) = (letters(ID_LENGTH)?, letters(SECRET_LENGTH)?);
    Token::new(&id, &secret).map_err(|_| NoRandom)
}

fn letters(count: usize) -> Result<Zeroizing<String>, NoRandom> {
    let mut text = Zeroizing::new(String::with_capacity(count));
    let mut bytes = Zeroizing::new([0_u8; 32]);
    while text.len() < count {
        fill(&mut *bytes).map_err(|_| NoRandom)?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 36)).copied();
        for letter in fair.filter_map(letter).take(count - text.len()) {
            text.push(char::from(letter));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tokens_differ_and_use_the_whole_alphabet() {
        let tokens: Vec<Token> = (0..200).map(|_| issue().unwrap()).collect();
        let ids: BTreeSet<&str> = tokens.iter().map(Token::id).collect();
        assert!(ids.len() > 195, "{}", ids.len());
        let letters: BTreeSet<char> = tokens
            .iter()
            .flat_map(|token| token.reveal().chars().collect::<Vec<_>>())
            .collect();
        assert_eq!(letters.len(), 37, "{letters:?}");
    }
}
