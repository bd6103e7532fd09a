package trefoil

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// proofHeader is the first line of a C2SP tlog-proof.
const proofHeader = "c2sp.org/tlog-proof@v1"

// maxProofSize bounds a proof's text: header, extra data, 63 hashes, checkpoint.
const maxProofSize = 2 * maxCheckpointSize

// maxProofHashes is the depth of the largest tree (C2SP tlog-witness).
const maxProofHashes = 63

// Proof says that a leaf is in a log: its index, the RFC 6962 inclusion path from the
// leaf's sibling up, and the checkpoint, verbatim with its signatures (C2SP tlog-proof).
type Proof struct {
	Index      uint64
	Hashes     [][32]byte
	Checkpoint []byte
}

// ParseProof reads a tlog-proof. Extra data is allowed and dropped: nothing authenticates
// it. No signature is verified.
func ParseProof(text string) (*Proof, error) {
	if len(text) > maxProofSize {
		return nil, fmt.Errorf("parse proof: %d bytes, more than %d", len(text), maxProofSize)
	}
	head, cp, ok := strings.Cut(text, "\n\n")
	if !ok {
		return nil, errors.New("parse proof: no checkpoint follows the path")
	}
	lines := strings.Split(head, "\n")
	if lines[0] != proofHeader {
		return nil, errors.New("parse proof: not a tlog-proof@v1")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if _, err := base64.StdEncoding.DecodeString(lines[0][len("extra "):]); err != nil {
			return nil, errors.New("parse proof: extra data is not base64")
		}
		lines = lines[1:]
	}
	p, err := parsePath(lines)
	if err != nil {
		return nil, fmt.Errorf("parse proof: %w", err)
	}
	if _, err := ParseCheckpoint([]byte(cp)); err != nil {
		return nil, fmt.Errorf("parse proof: %w", err)
	}
	p.Checkpoint = []byte(cp)
	return p, nil
}

func parsePath(lines []string) (*Proof, error) {
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, errors.New("no index line")
	}
	index, err := parseDecimal(lines[0][len("index "):])
	if err != nil {
		return nil, errors.New("index is not a decimal number")
	}
	p := &Proof{Index: index}
	if len(lines)-1 > maxProofHashes {
		return nil, fmt.Errorf("more than %d hashes", maxProofHashes)
	}
	for _, l := range lines[1:] {
		h, err := parseHash(l)
		if err != nil {
			return nil, errors.New("a hash is not the base64 of 32 bytes")
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// String returns the proof as a C2SP tlog-proof.
func (p *Proof) String() string {
	var b strings.Builder
	b.WriteString(proofHeader + "\nindex " + strconv.FormatUint(p.Index, 10) + "\n")
	for _, h := range p.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n")
	b.Write(p.Checkpoint)
	return b.String()
}
