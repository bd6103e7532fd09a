package trefoil

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// receiptHeader is the first line of a receipt.
const receiptHeader = "trefoil.eu/receipt/v1"

// maxReceiptSize bounds a receipt's text, in bytes.
const maxReceiptSize = 2*MaxBodySize + maxProofSize + 2*maxPermitSize

// Receipt is everything that checks one record offline, in one text file.
// Permit is "" for kinds that need none.
type Receipt struct {
	Record Record
	Proof  string // C2SP tlog-proof
	Permit string // signed note
}

// The sections of a receipt, in their order. The proof comes verbatim between its own lines,
// so that `sed '/^BEGIN PROOF$/,/^END PROOF$/!d;//d'` gives a file for any tlog-proof tool.
const (
	beginProof  = "BEGIN PROOF\n"
	endProof    = "END PROOF\n"
	beginPermit = "BEGIN PERMIT\n"
	endPermit   = "END PERMIT\n"
)

// Marshal returns the receipt's text. It refuses parts that could not be read back.
func (r *Receipt) Marshal() ([]byte, error) {
	if len(r.Record.Salt) != SaltSize || len(r.Record.Body) == 0 || len(r.Record.Body) > MaxBodySize {
		return nil, errors.New("marshal receipt: the record has no body or no salt of its size")
	}
	var b strings.Builder
	b.WriteString(receiptHeader + "\n")
	b.WriteString("salt " + base64.StdEncoding.EncodeToString(r.Record.Salt) + "\n")
	b.WriteString("body " + base64.StdEncoding.EncodeToString(r.Record.Body) + "\n")
	b.WriteString(beginProof + r.Proof + endProof)
	if r.Permit != "" {
		b.WriteString(beginPermit + r.Permit + endPermit)
	}
	out := []byte(b.String())
	if again, err := ParseReceipt(out); err != nil || again.Proof != r.Proof || again.Permit != r.Permit {
		return nil, errors.New("marshal receipt: proof or permit is malformed")
	}
	return out, nil
}

// ParseReceipt reads a receipt's text, in the one form that Marshal writes. It verifies
// nothing.
func ParseReceipt(text []byte) (*Receipt, error) {
	if len(text) > maxReceiptSize {
		return nil, fmt.Errorf("parse receipt: %d bytes, more than %d", len(text), maxReceiptSize)
	}
	r, err := parseReceipt(string(text))
	if err != nil {
		return nil, fmt.Errorf("parse receipt: %w", err)
	}
	return r, nil
}

func parseReceipt(s string) (*Receipt, error) {
	var ok bool
	if s, ok = strings.CutPrefix(s, receiptHeader+"\n"); !ok {
		return nil, errors.New("not a receipt: its first line is not " + receiptHeader)
	}
	r := new(Receipt)
	var err error
	if r.Record.Salt, s, err = cutField(s, "salt "); err != nil {
		return nil, err
	}
	if r.Record.Body, s, err = cutField(s, "body "); err != nil {
		return nil, err
	}
	if len(r.Record.Salt) != SaltSize {
		return nil, fmt.Errorf("salt is not %d bytes", SaltSize)
	}
	if r.Proof, s, err = cutSection(s, beginProof, endProof); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	if s == "" {
		return r, nil
	}
	if r.Permit, s, err = cutSection(s, beginPermit, endPermit); err != nil {
		return nil, fmt.Errorf("permit: %w", err)
	}
	if s != "" || r.Permit == "" {
		return nil, errors.New("something follows the last section")
	}
	return r, nil
}

// cutField reads one line `name BASE64` and returns the rest.
func cutField(s, name string) ([]byte, string, error) {
	line, rest, ok := strings.Cut(s, "\n")
	value, named := strings.CutPrefix(line, name)
	if !ok || !named {
		return nil, "", fmt.Errorf("no line %q", strings.TrimSpace(name))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || base64.StdEncoding.EncodedLen(len(raw)) != len(value) {
		return nil, "", fmt.Errorf("line %q is not base64", strings.TrimSpace(name))
	}
	return raw, rest, nil
}

// cutSection reads what stands between two marker lines and returns the rest.
func cutSection(s, begin, end string) (string, string, error) {
	s, ok := strings.CutPrefix(s, begin)
	if !ok {
		return "", "", errors.New("section is missing or cut")
	}
	inside, rest, ok := strings.Cut(s, "\n"+end)
	if !ok {
		return "", "", errors.New("section is missing or cut")
	}
	return inside + "\n", rest, nil
}
