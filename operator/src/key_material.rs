//! A key pair on its way from the ledger to a pipeline.

use zeroize::Zeroizing;

/// A key pair on its way from the ledger to a pipeline. It cannot be printed
/// or copied, and is wiped when dropped.
pub struct PublishedKey {
    private: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
    public: String,
    fingerprint: String,
}

impl PublishedKey {
    /// Takes over the bytes as the ledger holds them.
    #[must_use]
    pub fn new(private: Vec<u8>, password: Vec<u8>, public: String, fingerprint: String) -> Self {
        Self { private: private.into(), password: password.into(), public, fingerprint }
    }

    /// The private key in cosign's encrypted PEM.
    #[must_use]
    pub fn encrypted_pem(&self) -> &[u8] {
        &self.private
    }

    /// The password it is encrypted with.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// SubjectPublicKeyInfo as PEM.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public
    }

    /// The public key's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl std::fmt::Debug for PublishedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublishedKey")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
