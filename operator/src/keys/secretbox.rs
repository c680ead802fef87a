//! NaCl's `crypto_secretbox_xsalsa20poly1305` (Bernstein, "Cryptography in
//! NaCl", 2009): XSalsa20 with the first 32 bytes of its stream as the
//! one-time Poly1305 key, and the tag before the ciphertext.

use p256::elliptic_curve::subtle::ConstantTimeEq;
use poly1305::{Poly1305, universal_hash::KeyInit};
use salsa20::{
    XSalsa20,
    cipher::{KeyIvInit, StreamCipher},
};
use zeroize::Zeroizing;

/// Length of the tag before the ciphertext.
pub(super) const TAG: usize = 16;

/// Seals a message.
pub(super) fn seal(key: &[u8; 32], nonce: &[u8; 24], message: &[u8]) -> Vec<u8> {
    let (mut cipher, authenticator) = start(key, nonce);
    let mut body = message.to_vec();
    cipher.apply_keystream(&mut body);
    let mut sealed = authenticator.compute_unpadded(&body).to_vec();
    sealed.extend(body);
    sealed
}

/// Opens a box; nothing if it was sealed with another key or changed since.
pub(super) fn open(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (tag, body) = sealed.split_at_checked(TAG)?;
    let (mut cipher, authenticator) = start(key, nonce);
    // In constant time, and before anything is decrypted. `Poly1305::verify`
    // would pad the last block, which secretbox does not.
    if !bool::from(authenticator.compute_unpadded(body).as_slice().ct_eq(tag)) {
        return None;
    }
    let mut message = Zeroizing::new(body.to_vec());
    cipher.apply_keystream(&mut message);
    Some(message)
}

fn start(key: &[u8; 32], nonce: &[u8; 24]) -> (XSalsa20, Poly1305) {
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut one_time = Zeroizing::new([0_u8; 32]);
    cipher.apply_keystream(one_time.as_mut_slice());
    let authenticator = Poly1305::new((&*one_time).into());
    (cipher, authenticator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    /// The example of section 10 of "Cryptography in NaCl", `tests/secretbox.c`.
    #[test]
    fn nacls_known_answer() {
        let key: [u8; 32] =
            bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
                .try_into()
                .unwrap();
        let nonce: [u8; 24] =
            bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
        let message = bytes(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d4\
             5e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a\
             024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705",
        );
        let sealed = bytes(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c5\
             31a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8a\
             b932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622\
             a43d14a6599b1f654cb45a74e355a5",
        );
        assert_eq!(seal(&key, &nonce, &message), sealed);
        assert_eq!(*open(&key, &nonce, &sealed).unwrap(), message);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (key, nonce) = ([7; 32], [9; 24]);
        let sealed = seal(&key, &nonce, b"a private key");
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(open(&key, &nonce, &changed).is_none(), "byte {index}");
        }
        assert!(open(&[8; 32], &nonce, &sealed).is_none());
        assert!(open(&key, &nonce, &sealed[..TAG - 1]).is_none());
    }
}
