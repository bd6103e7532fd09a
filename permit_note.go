package trefoil

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// maxPermitSize bounds a permit's signed note, in bytes.
const maxPermitSize = 4096

// errPermitFormat means a permit is not in its one form: reject it.
var errPermitFormat = errors.New("not a permit in its one form")

// SignPermit returns the permit as a C2SP signed note. While a permit key is being replaced the
// outgoing one signs too.
func SignPermit(p Permit, s note.Signer, outgoing ...note.Signer) (string, error) {
	if p.Origin == "" || strings.ContainsAny(p.Origin, "\n\r") {
		return "", fmt.Errorf("sign permit: origin is not one line")
	}
	signed, err := note.Sign(&note.Note{Text: p.text()}, append([]note.Signer{s}, outgoing...)...)
	if err != nil {
		return "", fmt.Errorf("sign permit: %w", err)
	}
	return string(signed), nil
}

// OpenPermit verifies a permit's signature and reads it. Unknown signatures are ignored, as
// signed-note asks; the text must be in the one form that SignPermit writes.
func OpenPermit(text string, v note.Verifier) (Permit, error) {
	if len(text) > maxPermitSize {
		return Permit{}, fmt.Errorf("open permit: %d bytes, more than %d", len(text), maxPermitSize)
	}
	if v == nil {
		return Permit{}, errors.New("open permit: no permit key to check it with")
	}
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil || !canonical(n) {
		return Permit{}, errors.New("open permit: no valid signature of the permit key")
	}
	p, err := parsePermit(n.Text)
	if err != nil {
		return Permit{}, fmt.Errorf("open permit: %w", err)
	}
	return p, nil
}

func (p Permit) text() string {
	return fmt.Sprintf("%s\n%s\n%d\n%s\n%s\n%d\n", PermitHeader, p.Origin, p.Index,
		base64.StdEncoding.EncodeToString(p.Leaf[:]), p.Expires.UTC().Format(time.RFC3339), p.StopEpoch)
}

func parsePermit(text string) (Permit, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 7 || lines[0] != PermitHeader || lines[1] == "" || lines[6] != "" {
		return Permit{}, errPermitFormat
	}
	p := Permit{Origin: lines[1]}
	leaf, err := base64.StdEncoding.DecodeString(lines[3])
	if err != nil || len(leaf) != len(p.Leaf) {
		return Permit{}, errPermitFormat
	}
	copy(p.Leaf[:], leaf)
	var errs [3]error
	p.Index, errs[0] = strconv.ParseUint(lines[2], 10, 64)
	p.Expires, errs[1] = time.Parse(time.RFC3339, lines[4])
	p.StopEpoch, errs[2] = strconv.ParseUint(lines[5], 10, 64)
	if errors.Join(errs[:]...) != nil || p.text() != text {
		return Permit{}, errPermitFormat
	}
	return p, nil
}

// UncheckedPermit reads a permit that carries one signature, of the key name with that key hash,
// and returns what is signed and the signature, which the caller must check: many of them at once
// are checked faster than each. It fails on what has another form, though OpenPermit may take it.
func UncheckedPermit(text, name string, hash uint32) (p Permit, message, signature []byte, err error) {
	if len(text) > maxPermitSize {
		return Permit{}, nil, nil, fmt.Errorf("read permit: %d bytes, more than %d", len(text), maxPermitSize)
	}
	body, line, ok := strings.Cut(text, "\n\n\u2014 "+name+" ")
	sig, ended := strings.CutSuffix(line, "\n")
	raw, err := base64.StdEncoding.Strict().DecodeString(sig)
	if !ok || !ended || err != nil || len(raw) != 4+64 || binary.BigEndian.Uint32(raw) != hash || strings.ContainsAny(sig, "\r\n") {
		return Permit{}, nil, nil, fmt.Errorf("read permit: %w", errPermitFormat)
	}
	if p, err = parsePermit(body + "\n"); err != nil {
		return Permit{}, nil, nil, fmt.Errorf("read permit: %w", err)
	}
	return p, []byte(body + "\n"), raw[4:], nil
}
