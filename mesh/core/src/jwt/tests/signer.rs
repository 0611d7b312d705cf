//! Keys that sign tokens, one of each kind, made once.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::OnceLock;

pub(super) struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

pub(super) fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(Signer::generate)
}

/// Another with other keys.
pub(super) fn stranger() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(Signer::generate)
}

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn generate() -> Self {
        let curve = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::generate(algorithm).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            p521: curve(&ECDSA_P521_SHA512_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// Signs header and payload as they are, whatever they say of the algorithm.
    pub(super) fn sign(&self, algorithm: &str, header: &Value, payload: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(payload.to_string()));
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(encoding, &random, signed.as_bytes(), &mut signature)
                .unwrap();
            signature
        };
        let curve = |pair: &EcdsaKeyPair| pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec();
        let signature = match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => curve(&self.p256),
            "ES384" => curve(&self.p384),
            "ES512" => curve(&self.p521),
            "EdDSA" => self.ed25519.sign(signed.as_bytes()).as_ref().to_vec(),
            other => panic!("{other}"),
        };
        format!("{signed}.{}", encoded(signature))
    }

    /// A token with nothing but an algorithm in its header.
    pub(super) fn token(&self, algorithm: &str, payload: &Value) -> String {
        self.sign(algorithm, &json!({"alg": algorithm}), payload)
    }

    /// The public key of an algorithm, with more members or others.
    pub(super) fn key(&self, algorithm: &str, more: &Value) -> Value {
        let point = |pair: &EcdsaKeyPair, name: &str| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
            json!({"kty": "EC", "crv": name, "x": encoded(x), "y": encoded(y)})
        };
        let mut key = match &algorithm[..2] {
            "RS" | "PS" => {
                let (n, e) = self.modulus_and_exponent();
                json!({"kty": "RSA", "n": encoded(n), "e": encoded(e)})
            }
            "Ed" => json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(self.ed25519.public_key())}),
            _ => match algorithm {
                "ES256" => point(&self.p256, "P-256"),
                "ES384" => point(&self.p384, "P-384"),
                _ => point(&self.p521, "P-521"),
            },
        };
        for (name, value) in more.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    /// One key set with all public keys.
    pub(super) fn jwks(&self) -> String {
        let keys = ["RS256", "ES256", "ES384", "ES512", "EdDSA"].map(|algorithm| self.key(algorithm, &json!({})));
        json!({"keys": keys}).to_string()
    }

    /// Out of the DER of RFC 8017, A.1.1: SEQUENCE { INTEGER n, INTEGER e }.
    pub(super) fn modulus_and_exponent(&self) -> (Vec<u8>, Vec<u8>) {
        fn take(der: &[u8]) -> (&[u8], &[u8]) {
            let (length, start) = match der[1] {
                short @ 0..=0x7f => (usize::from(short), 2),
                0x81 => (usize::from(der[2]), 3),
                0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
                other => panic!("{other}"),
            };
            der[start..].split_at(length)
        }
        let (sequence, _) = take(self.rsa.public_key().as_ref());
        let (n, rest) = take(sequence);
        let (e, _) = take(rest);
        (n[1..].to_vec(), e.to_vec())
    }
}
