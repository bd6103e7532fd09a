package trefoil_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// renameCosigner gives a cosigner's public key another name, with the right key hash.
func renameCosigner(t *testing.T, vkey, name string) string {
	t.Helper()
	material := strings.SplitN(vkey, "+", 3)[2]
	raw, err := base64.StdEncoding.DecodeString(material)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	return fmt.Sprintf("%s+%x+%s", name, sum[:4], material)
}

func TestProofRoundTripAndForm(t *testing.T) {
	w := newWorld(t)
	w.addOthers(300)
	p := w.proof(17, w.checkpoint())
	text := p.String()
	parsed, err := trefoil.ParseProof(text)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.String() != text || parsed.Index != 17 {
		t.Fatal("String after Parse differs")
	}
	if _, err := w.trust.VerifyProof(parsed, w.leaves[17]); err != nil {
		t.Fatal(err)
	}
	withExtra := strings.Replace(text, "@v1\n", "@v1\nextra aGVsbG8=\n", 1)
	if q, err := trefoil.ParseProof(withExtra); err != nil || q.String() != text {
		t.Fatalf("extra data: %v", err)
	}
	for name, bad := range map[string]string{
		"version":       strings.Replace(text, "@v1", "@v2", 1),
		"no index":      strings.Replace(text, "index 17\n", "", 1),
		"leading zero":  strings.Replace(text, "index 17", "index 017", 1),
		"negative":      strings.Replace(text, "index 17", "index -17", 1),
		"huge":          strings.Replace(text, "index 17", "index 9223372036854775808", 1),
		"bad extra":     strings.Replace(text, "@v1\n", "@v1\nextra !\n", 1),
		"two extras":    strings.Replace(text, "@v1\n", "@v1\nextra aGVsbG8=\nextra aGVsbG8=\n", 1),
		"short hash":    strings.Replace(text, "index 17\n", "index 17\nAAAA\n", 1),
		"no checkpoint": strings.SplitAfter(text, "\n\n")[0],
		"too deep":      strings.Replace(text, "index 17\n", "index 17\n"+strings.Repeat("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 60), 1),
		"carriage":      strings.Replace(text, "index 17\n", "index 17\r\n", 1),
	} {
		if _, err := trefoil.ParseProof(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestProveInclusionAgreesWithTheChecksumDatabase(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{1, 2, 255, 256, 257, 600} {
		w.addOthers(size - len(w.leaves))
		c, err := w.trust.VerifyCheckpoint(w.checkpoint())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []uint64{0, uint64(size) / 2, uint64(size) - 1} {
			path, err := trefoil.ProveInclusion(t.Context(), w, c, i, w.leaves[i])
			if err != nil {
				t.Fatal(err)
			}
			want := w.proof(i, nil)
			if fmt.Sprint(path) != fmt.Sprint(want.Hashes) {
				t.Fatalf("size %d, entry %d: another path", size, i)
			}
		}
		if _, err := trefoil.ProveInclusion(t.Context(), w, c, uint64(size), w.leaves[0]); err == nil {
			t.Fatal("an entry beyond the tree is proven")
		}
		if _, err := trefoil.ProveInclusion(t.Context(), w, c, 0, []byte("another leaf")); err == nil {
			t.Fatal("another leaf is proven")
		}
	}
}

func TestConsistency(t *testing.T) {
	w := newWorld(t)
	w.addOthers(10)
	older, err := w.trust.VerifyCheckpoint(w.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	w.addOthers(300)
	newer, err := w.trust.VerifyCheckpoint(w.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	path, err := trefoil.ProveConsistency(t.Context(), w, newer, older.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := trefoil.VerifyConsistency(older, newer, path); err != nil {
		t.Fatal(err)
	}
	fails(t, trefoil.VerifyConsistency(newer, older, path), trefoil.ReasonRewound)
	split := *older
	split.Root[0] ^= 1
	fails(t, trefoil.VerifyConsistency(&split, newer, path), trefoil.ReasonSplit)
	sameSize := *newer
	sameSize.Root[0] ^= 1
	fails(t, trefoil.VerifyConsistency(&sameSize, newer, nil), trefoil.ReasonSplit)
	other := *older
	other.Origin = "other.example"
	fails(t, trefoil.VerifyConsistency(&other, newer, path), trefoil.ReasonOrigin)
}

func TestPermitForm(t *testing.T) {
	w := newWorld(t)
	r := release(t, nil)
	text := w.permitFor(5, r, func(p *trefoil.Permit) { p.StopEpoch, p.Expires = 9, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC) })
	p, err := trefoil.OpenPermit(text, w.trust.Permit)
	if err != nil {
		t.Fatal(err)
	}
	if p.Index != 5 || p.StopEpoch != 9 || p.Origin != origin || p.Leaf != trefoil.LeafHash(r.Leaf()) || !p.Expires.Equal(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)) {
		t.Fatalf("permit %+v", p)
	}
	if _, err := trefoil.OpenPermit(text, nil); err == nil {
		t.Fatal("a permit opens without a key")
	}
	good := strings.SplitAfter(text, "\n\n")[0]
	for name, bad := range map[string]string{
		"header":             strings.Replace(good, "permit/v1", "permit/v2", 1),
		"another line":       strings.Replace(good, "\n\n", "\nmore\n\n", 1),
		"leading zero":       strings.Replace(good, "\n5\n", "\n05\n", 1),
		"local time":         strings.Replace(good, "09:00:00Z", "10:00:00+01:00", 1),
		"fraction":           strings.Replace(good, "09:00:00Z", "09:00:00.5Z", 1),
		"empty origin":       strings.Replace(good, origin, "", 1),
		"signs a checkpoint": w.text(origin, 0) + "\n",
	} {
		signed := sign(t, strings.TrimSuffix(bad, "\n"), w.permit)
		if _, err := trefoil.OpenPermit(string(signed), w.trust.Permit); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := trefoil.SignPermit(trefoil.Permit{Origin: "two\nlines"}, w.permit); err == nil {
		t.Error("an origin of two lines is signed")
	}
}

func TestCheckpointForm(t *testing.T) {
	w := newWorld(t)
	w.addOthers(3)
	good := string(w.checkpoint())
	for name, bad := range map[string]string{
		"leading zero": strings.Replace(good, "\n3\n", "\n03\n", 1),
		"extension":    strings.Replace(good, "\n\n", "\nextension\n\n", 1),
		"no signature": strings.SplitAfter(good, "\n\n")[0][:20],
		"no origin":    strings.TrimPrefix(good, origin),
		"short root":   "o\n3\nAAAA\n\n— x AAAA\n",
		"too large":    good + strings.Repeat("— x AAAAAAAA\n", 10000),
	} {
		if _, err := trefoil.ParseCheckpoint([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := trefoil.ParseCheckpoint([]byte(good))
	if err != nil || c.Size != 3 || c.Origin != origin || len(c.Witnessed) != 0 {
		t.Fatalf("ParseCheckpoint: %+v, %v", c, err)
	}
}
