// Package identity knows who may log in and from where they count as being: people.yaml,
// SCRAM-SHA-256 verification of passwords and personal access tokens, ID tokens, client
// certificates, limits on guesses, and the three places of a session.
//
// The invariant it keeps: an unknown person, a wrong password and a right one look alike
// until the last message, and unknown stays unknown: no country is ever guessed. It never
// sees a password, only verifiers and proofs; an ID token is the one secret that crosses a
// line, inside TLS alone.
//
// Specifications: RFC 5802 and 7677 (SCRAM-SHA-256), RFC 5929 (tls-server-end-point),
// OpenID Connect Core 1.0 section 3.1.3.7, RFC 5280 (certificates, revocation lists), and
// PostgreSQL's verifier text "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey".
// It decides nothing about access: rules/policy does.
package identity
