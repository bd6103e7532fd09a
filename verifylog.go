package trefoil

import (
	"context"
)

// LogOptions are what VerifyLog may be told beyond whom to trust.
type LogOptions struct {
	// Earlier is a checkpoint of the same log that was seen before, signed by its key: the log must
	// still hold everything that it held then. Nil: no comparison.
	Earlier []byte
	// Tiles also compares every published tile of hashes with the entries.
	Tiles bool
	// Leaf, if set, is called with each leaf in order; its error stops the verification.
	// The slice is valid only during the call.
	Leaf func(index uint64, leaf []byte) error
	// Progress, if set, is called now and then with how many leaves of how many are done.
	Progress func(done, total uint64)
}

// LogReport is what VerifyLog found.
type LogReport struct {
	Checkpoint *Checkpoint
	Raw        []byte // the checkpoint as it was fetched
	Leaves     uint64
	Earlier    *Checkpoint // the earlier checkpoint, nil if none was given
}

// VerifyLog re-reads a whole log: it verifies the checkpoint, rebuilds the tree from every
// entry, and compares the root. Its errors are *VerifyError where the log is at fault.
func VerifyLog(ctx context.Context, f Fetcher, t *Trust, o LogOptions) (*LogReport, error) {
	return verifyLog(ctx, f, t, o)
}
