package trefoil

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxCheckpointSize bounds a checkpoint with all its signatures, in bytes.
const maxCheckpointSize = 64 << 10

// Checkpoint is a log's statement of its size and root (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [32]byte

	// Witnessed are the distinct trusted witnesses whose cosignatures verified, with the
	// second at which each cosigned. Only VerifyCheckpoint fills it.
	Witnessed []Cosignature
}

// Cosignature is one witness's verified cosignature.
type Cosignature struct {
	Witness string // key name
	At      time.Time
}

// ParseCheckpoint reads a checkpoint's text without verifying any signature: for sizes and
// hints only. Extension lines are refused: nobody audits them.
func ParseCheckpoint(cp []byte) (*Checkpoint, error) {
	if len(cp) > maxCheckpointSize {
		return nil, fmt.Errorf("parse checkpoint: %d bytes, more than %d", len(cp), maxCheckpointSize)
	}
	text, _, ok := bytes.Cut(cp, []byte("\n\n"))
	if !ok {
		return nil, errors.New("parse checkpoint: no signature follows the text")
	}
	c, err := parseCheckpointText(string(text) + "\n")
	if err != nil {
		return nil, fmt.Errorf("parse checkpoint: %w", err)
	}
	return c, nil
}

func parseCheckpointText(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return nil, errors.New("not an origin, a size and a root, a line each")
	}
	c := &Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = parseDecimal(lines[1]); err != nil {
		return nil, errors.New("size is not a decimal number")
	}
	if c.Root, err = parseHash(lines[2]); err != nil {
		return nil, errors.New("root is not the base64 of 32 bytes")
	}
	return c, nil
}

// parseDecimal reads an unsigned decimal without leading zeroes, at most 2^63-1.
func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("not a decimal number")
	}
	return n, nil
}

// parseHash reads 32 bytes in standard base64, in its one spelling.
func parseHash(s string) (h [32]byte, err error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != len(h) || len(s) != base64.StdEncoding.EncodedLen(len(h)) {
		return h, errors.New("not the base64 of 32 bytes")
	}
	copy(h[:], raw)
	return h, nil
}
