package accesslog

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// Config is what a log needs. Origin, Directory, Signer and at least one witness (or
// Quorum < 0, which says in so many words that nobody watches) are required.
type Config struct {
	Origin    string      // the log's name in checkpoints and records; the signer's name
	Directory string      // made if missing; owned by one process at a time
	Signer    note.Signer // Ed25519; its name is Origin

	// Witnesses, of which the first goes first: with a Quorum below all of them its cosignature
	// is in every checkpoint while it answers, and the others' alone count while it does not.
	Witnesses []Witness
	Quorum    int // how many witnesses must cosign; 0 = all

	TLS *tls.Config // towards witnesses with https URLs; nil: the system's authorities

	CheckpointInterval time.Duration // at least and by default 100 ms
	WitnessTimeout     time.Duration // for one round of cosigning; default 3 s
	MaxPending         int           // records appended but not yet witnessed, beyond which Append fails; default 65,536

	Retention map[trefoil.Kind]time.Duration // how long bodies stay; a kind not named stays for ever
	Logger    *slog.Logger
	Now       func() time.Time
}

// Witness is a C2SP tlog-witness: the URL prefix of its add-checkpoint, and its
// cosignature/v1 verifier key (type 0x04).
type Witness struct {
	URL string
	Key string
}

// Errors that callers may tell apart. Each means: nothing was recorded, so nothing may leave.
var (
	// ErrLocked: another process has this directory open. Stop that one first.
	ErrLocked = errors.New("log directory is in use by another process")
	// ErrFull: too many records wait for witnesses. Try again once they answer.
	ErrFull = errors.New("too many records wait to be witnessed")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("log is closed")
	// ErrStore: the site's disk took a body or leaf not. Mend the disk; the log goes on by itself.
	ErrStore = errors.New("log store failed")
	// ErrNoBody: this record's body was deleted, expired or never existed here.
	ErrNoBody = errors.New("no body is kept for this record")
)
