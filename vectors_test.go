package trefoil_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

// vectorFile is testdata/vectors.json: what another implementation must agree with. Strings
// are as they stand; hex fields are lower case.
type vectorFile struct {
	Comment    string            `json:"comment"`
	Records    []recordVector    `json:"records"`
	Invalid    []invalidVector   `json:"invalid_bodies"`
	Pseudonyms []pseudonymVector `json:"staff_pseudonyms"`
	Definition definitionVector  `json:"definition"`
	Permit     permitVector      `json:"permit"`
	Receipt    receiptVector     `json:"receipt"`
	Forged     []forgedVector    `json:"forged_receipts"`
}

type recordVector struct {
	Body     string `json:"body"`
	Salt     string `json:"salt_hex"`
	Leaf     string `json:"leaf_hex"`
	LeafHash string `json:"leaf_hash_hex"`
}

type invalidVector struct {
	Why  string `json:"why"`
	Body string `json:"body"`
}

type pseudonymVector struct {
	Key       string `json:"key_hex"`
	At        string `json:"at"`
	ID        string `json:"id"`
	Pseudonym string `json:"pseudonym"`
}

type definitionVector struct {
	JSON string `json:"json"`
	Hash string `json:"hash_hex"`
}

type permitVector struct {
	VerifierKey string `json:"verifier_key"`
	Text        string `json:"text"`
	Origin      string `json:"origin"`
	Index       uint64 `json:"index"`
	Leaf        string `json:"leaf_hash_hex"`
	Expires     string `json:"expires"`
	StopEpoch   uint64 `json:"stop_epoch"`
}

type receiptVector struct {
	LogKey      string   `json:"log_key"`
	MonitorKeys []string `json:"monitor_keys"`
	Text        string   `json:"text"`
	Index       uint64   `json:"index"`
	Size        uint64   `json:"tree_size"`
	Root        string   `json:"root_hex"`
}

type forgedVector struct {
	Why    string         `json:"why"`
	Text   string         `json:"text"`
	Reason trefoil.Reason `json:"reason"`
}

const vectorPath = "testdata/vectors.json"

// TestVectors checks the file; TREFOIL_UPDATE=1 writes it anew with fresh keys.
func TestVectors(t *testing.T) {
	if update() {
		writeVectors(t)
	}
	raw, err := os.ReadFile(vectorPath)
	if err != nil {
		t.Fatal(err)
	}
	var v vectorFile
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if len(v.Records) < len(kinds) || len(v.Invalid) < 5 || len(v.Pseudonyms) < 2 || len(v.Forged) < 3 {
		t.Fatal("the file of vectors is not whole")
	}
	for _, r := range v.Records {
		checkRecordVector(t, r)
	}
	for _, bad := range v.Invalid {
		if _, err := trefoil.DecodeBody([]byte(bad.Body)); err == nil {
			t.Errorf("invalid body accepted: %s", bad.Why)
		}
	}
	for _, p := range v.Pseudonyms {
		at, err := time.Parse(time.RFC3339, p.At)
		if err != nil {
			t.Fatal(err)
		}
		if got := trefoil.StaffPseudonym(unhex(t, p.Key), at, p.ID); got != p.Pseudonym {
			t.Errorf("pseudonym of %s: %s, want %s", p.ID, got, p.Pseudonym)
		}
	}
	var d trefoil.Definition
	if err := json.Unmarshal([]byte(v.Definition.JSON), &d); err != nil || trefoil.DefinitionHash(&d) != v.Definition.Hash {
		t.Errorf("definition's hash: %s (%v)", trefoil.DefinitionHash(&d), err)
	}
	checkPermitVector(t, v.Permit)
	checkReceiptVector(t, v.Receipt, v.Forged)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkRecordVector(t *testing.T, v recordVector) {
	t.Helper()
	b, err := trefoil.DecodeBody([]byte(v.Body))
	if err != nil {
		t.Error(err)
		return
	}
	r := trefoil.Record{Body: []byte(v.Body), Salt: unhex(t, v.Salt)}
	hash := trefoil.LeafHash(r.Leaf())
	if hex.EncodeToString(r.Leaf()) != v.Leaf || hex.EncodeToString(hash[:]) != v.LeafHash {
		t.Errorf("%s record: another leaf", b.Kind)
	}
}

func checkPermitVector(t *testing.T, v permitVector) {
	t.Helper()
	key, err := note.NewVerifier(v.VerifierKey)
	if err != nil {
		t.Fatal(err)
	}
	p, err := trefoil.OpenPermit(v.Text, key)
	if err != nil {
		t.Fatal(err)
	}
	if p.Origin != v.Origin || p.Index != v.Index || hex.EncodeToString(p.Leaf[:]) != v.Leaf || p.Expires.Format(time.RFC3339) != v.Expires || p.StopEpoch != v.StopEpoch {
		t.Errorf("permit %+v", p)
	}
}

func checkReceiptVector(t *testing.T, v receiptVector, forged []forgedVector) {
	t.Helper()
	trust, err := trefoil.ParseTrust(v.LogKey, v.MonitorKeys)
	if err != nil {
		t.Fatal(err)
	}
	r, err := trefoil.ParseReceipt([]byte(v.Text))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.VerifyReceipt(r); err != nil {
		t.Fatal(err)
	}
	p, err := trefoil.ParseProof(r.Proof)
	if err != nil {
		t.Fatal(err)
	}
	c, err := trust.VerifyProof(p, r.Record.Leaf())
	if err != nil || p.Index != v.Index || c.Size != v.Size || hex.EncodeToString(c.Root[:]) != v.Root {
		t.Errorf("receipt: %+v, %v", c, err)
	}
	for _, f := range forged {
		r, err := trefoil.ParseReceipt([]byte(f.Text))
		if err == nil {
			_, err = trust.VerifyReceipt(r)
		} else {
			err = &trefoil.VerifyError{Reason: trefoil.ReasonFormat, Text: err.Error()}
		}
		fails(t, err, f.Reason)
	}
}

// writeVectors makes the file. Bodies, salts and pseudonyms are fixed; signatures are not.
func writeVectors(t *testing.T) {
	t.Helper()
	v := vectorFile{Comment: "Test vectors for docs/record-format.md"}
	for i, kind := range kinds {
		for _, b := range []*trefoil.Body{fullBody(t, kind), emptyBody(t, kind)} {
			v.Records = append(v.Records, vectorOf(t, b, byte(2*i)))
		}
	}
	good := v.Records[len(v.Records)-2].Body
	v.Invalid = []invalidVector{
		{"white space", good + "\n"},
		{"unknown key", strings.Replace(good, `"kind"`, `"extra":1,"kind"`, 1)},
		{"keys not in byte order", strings.Replace(good, `{"at"`, `{"kind":"key","at"`, 1)},
		{"time without its six digits", strings.Replace(good, ".006005Z", ".006Z", 1)},
		{"kind without its part", `{"at":"2026-11-21T09:08:07.000000Z","kind":"key","origin":"o"}`},
		{"escape that is not due", strings.Replace(good, "log.example/", `log.example\/`, 1)},
	}
	key := bytes.Repeat([]byte{7}, 32)
	for _, at := range []string{"2026-11-21T09:08:07Z", "2026-12-01T00:30:00+01:00", "2026-12-01T00:00:00Z"} {
		when, _ := time.Parse(time.RFC3339, at)
		v.Pseudonyms = append(v.Pseudonyms, pseudonymVector{hex.EncodeToString(key), at, "aoife@operator.example", trefoil.StaffPseudonym(key, when, "aoife@operator.example")})
	}
	catalog := fullBody(t, trefoil.KindCatalog).Catalog
	enc, err := trefoil.EncodeBody(&trefoil.Body{At: time.Unix(1, 0), Kind: trefoil.KindCatalog, Origin: "o", Catalog: &trefoil.CatalogBody{Definition: catalog.Definition}})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(enc), `"definition":`)
	definition, _, _ := strings.Cut(rest, `,"event"`)
	v.Definition = definitionVector{definition, trefoil.DefinitionHash(catalog.Definition)}
	writeSigned(t, &v)
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorPath, append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func vectorOf(t *testing.T, b *trefoil.Body, salt byte) recordVector {
	t.Helper()
	enc, err := trefoil.EncodeBody(b)
	if err != nil {
		t.Fatal(err)
	}
	r := trefoil.Record{Body: enc, Salt: bytes.Repeat([]byte{salt}, 32)}
	hash := trefoil.LeafHash(r.Leaf())
	return recordVector{string(enc), hex.EncodeToString(r.Salt), hex.EncodeToString(r.Leaf()), hex.EncodeToString(hash[:])}
}

// writeSigned makes the vectors that carry signatures.
func writeSigned(t *testing.T, v *vectorFile) {
	t.Helper()
	w := newWorld(t)
	var logKey, permitKey, witnessKey string
	w.log, w.trust.Log, logKey = witnesstest.Key(t, origin)
	w.permit, w.trust.Permit, permitKey = witnesstest.Key(t, "monitor.example/permit")
	w.one, witnessKey = witnesstest.WitnessKey(t, "monitor.example/witness")
	r := release(t, nil)
	receipt := w.receipt(r)
	cp := sign(t, w.text(origin, len(w.leaves)), w.log, w.one)
	receipt.Proof = w.proof(5, cp).String()
	text, err := receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c, err := trefoil.ParseCheckpoint(cp)
	if err != nil {
		t.Fatal(err)
	}
	p, err := trefoil.OpenPermit(receipt.Permit, w.trust.Permit)
	if err != nil {
		t.Fatal(err)
	}
	v.Permit = permitVector{permitKey, receipt.Permit, p.Origin, p.Index, hex.EncodeToString(p.Leaf[:]), p.Expires.Format(time.RFC3339), p.StopEpoch}
	v.Receipt = receiptVector{logKey, []string{witnessKey, permitKey}, string(text), 5, c.Size, hex.EncodeToString(c.Root[:])}
	unwitnessed := *receipt
	unwitnessed.Proof = w.proof(5, sign(t, w.text(origin, len(w.leaves)), w.log)).String()
	moved := *receipt
	moved.Proof = strings.Replace(receipt.Proof, "index 5", "index 6", 1)
	bare := *receipt
	bare.Permit = ""
	for _, f := range []struct {
		why    string
		r      trefoil.Receipt
		reason trefoil.Reason
	}{{"no witness", unwitnessed, trefoil.ReasonQuorum}, {"another index", moved, trefoil.ReasonInclusion}, {"no permit", bare, trefoil.ReasonNoPermit}} {
		text, err := f.r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		v.Forged = append(v.Forged, forgedVector{f.why, string(text), f.reason})
	}
	v.Forged = append(v.Forged, forgedVector{"cut", string(text[:len(text)-20]), trefoil.ReasonFormat})
}
