// Package kept is the ciphertext that a valve keeps of each connection, in a file of its own:
// everything that came from the gateway, the first bytes of what went to it, and which session
// the monitor says it was.
//
// The invariant it keeps: what passed toward the client is in the file before it passes; a
// file that ends without an end frame was cut, and says no more than what is in it.
//
// A file is DIR/YYYY-MM-DD/CONNECTION until the monitor names the session, then
// DIR/YYYY-MM-DD/SESSION.CONNECTION. It begins with a line, then frames: kind (1 byte),
// length (4 bytes, big-endian), content. Kinds: i, the connection's id (16 bytes) and when it
// began (8 bytes, Unix milliseconds); u, bytes to the gateway; d, bytes to the client; s, the
// session (32 hex digits); e, how many bytes went to the client in all (8 bytes). It is not
// encrypted again: without the session's secrets, which the gateway has, it is noise.
package kept
