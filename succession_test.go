package trefoil_test

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// heir is a key of one use, with the plain signer that hands it on.
type heir struct {
	use    string
	signer note.Signer // signs what its use signs
	plain  note.Signer
	vkey   string
}

func newHeir(t *testing.T, use, name string) heir {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	h := heir{use: use, signer: plain, plain: plain, vkey: vkey}
	if use == trefoil.SuccessionWitness {
		if h.vkey, err = fnote.VKeyToCosignatureV1(vkey); err != nil {
			t.Fatal(err)
		}
		if h.signer, err = fnote.NewSignerForCosignatureV1(skey); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// reign is a log, a witness and a monitor's permit key, each of which can be replaced.
type reign struct {
	*world
	keys map[string]heir
}

func newReign(t *testing.T) *reign {
	t.Helper()
	r := &reign{world: newWorld(t), keys: map[string]heir{}}
	for use, name := range map[string]string{trefoil.SuccessionLog: origin, trefoil.SuccessionWitness: "monitor.example/witness", trefoil.SuccessionPermit: "monitor.example/permit"} {
		r.keys[use] = newHeir(t, use, name)
	}
	var err error
	if r.trust, err = trefoil.ParseTrust(r.keys["log"].vkey, []string{r.keys["witness"].vkey, r.keys["permit"].vkey}); err != nil {
		t.Fatal(err)
	}
	r.sit()
	return r
}

// sit makes the keys in use those that sign.
func (r *reign) sit() {
	r.log, r.permit, r.one = r.keys["log"].signer, r.keys["permit"].signer, r.keys["witness"].signer
}

func (r *reign) fresh() *trefoil.Receipt {
	r.t.Helper()
	rec := release(r.t, nil)
	index := r.add(rec.Leaf())
	cp := sign(r.t, r.text(origin, len(r.leaves)), r.log, r.one)
	return &trefoil.Receipt{Record: rec, Proof: r.proof(index, cp).String(), Permit: r.permitFor(index, rec, nil)}
}

func succession(t *testing.T, use string, old, new heir, from, until time.Time, by note.Signer) string {
	t.Helper()
	text, err := trefoil.SignSuccession(trefoil.Succession{Use: use, Old: old.vkey, New: new.vkey,
		From: from.UTC().Truncate(time.Second), Until: until.UTC().Truncate(time.Second)}, by)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReplacedKeyWithoutSuccession: a second enclave, or a monitor's key that somebody replaced,
// verifies nothing; with the outgoing key's or a regulator's signature it does.
func TestReplacedKeyWithoutSuccession(t *testing.T) {
	now := time.Now()
	regulator := newHeir(t, trefoil.SuccessionPermit, "regulator.example")
	for use, reason := range map[string]trefoil.Reason{trefoil.SuccessionLog: trefoil.ReasonLogSignature,
		trefoil.SuccessionWitness: trefoil.ReasonQuorum, trefoil.SuccessionPermit: trefoil.ReasonPermit} {
		r := newReign(t)
		before := r.fresh()
		old := r.keys[use]
		next := newHeir(t, use, old.plain.Name())
		r.keys[use] = next
		r.sit()
		_, err := r.trust.VerifyReceipt(r.fresh())
		fails(t, err, reason)

		forged := succession(t, use, old, next, now.Add(-time.Hour), now.Add(time.Hour), next.plain)
		if err := r.trust.Succeed(forged); err == nil {
			t.Errorf("%s: a key named itself the successor", use)
		}
		_, err = r.trust.VerifyReceipt(r.fresh())
		fails(t, err, reason)
		if err := r.trust.Succeed(succession(t, use, old, next, now.Add(-time.Hour), now.Add(time.Hour), regulator.plain)); err == nil {
			t.Errorf("%s: a regulator whom nobody named", use)
		}
		if err := r.trust.Succeed(succession(t, use, old, next, now.Add(-time.Hour), now.Add(time.Hour), old.plain)); err != nil {
			t.Fatalf("%s: %v", use, err)
		}
		for name, receipt := range map[string]*trefoil.Receipt{"new key": r.fresh(), "old key in the overlap": before} {
			if _, err := r.trust.VerifyReceipt(receipt); err != nil {
				t.Errorf("%s, %s: %v", use, name, err)
			}
		}
		third := newHeir(t, use, old.plain.Name())
		fork := succession(t, use, old, third, now.Add(-time.Hour), now.Add(time.Hour), old.plain)
		if err := r.trust.Succeed(fork); err == nil {
			t.Errorf("%s: the outgoing key named two successors", use)
		}
		v, err := note.NewVerifier(regulator.vkey)
		if err != nil {
			t.Fatal(err)
		}
		r.trust.Regulators = []note.Verifier{v}
		if err := r.trust.Succeed(succession(t, use, next, third, now.Add(-time.Minute), now.Add(time.Hour), regulator.plain)); err != nil {
			t.Errorf("%s: a named regulator: %v", use, err)
		}
		r.keys[use] = third
		r.sit()
		if _, err := r.trust.VerifyReceipt(r.fresh()); err != nil {
			t.Errorf("%s: the regulator's key: %v", use, err)
		}
	}
}

// TestKeysOutsideTheirPeriods: an outgoing key that signs on after its end, and a new one before
// its beginning.
func TestKeysOutsideTheirPeriods(t *testing.T) {
	now := time.Now()
	for _, use := range []string{trefoil.SuccessionLog, trefoil.SuccessionWitness, trefoil.SuccessionPermit} {
		ended := newReign(t)
		old := ended.keys[use]
		next := newHeir(t, use, old.plain.Name())
		if err := ended.trust.Succeed(succession(t, use, old, next, now.Add(-2*time.Hour), now.Add(-time.Hour), old.plain)); err != nil {
			t.Fatal(err)
		}
		if _, err := ended.trust.VerifyReceipt(ended.fresh()); err == nil {
			t.Errorf("%s: a key that ended an hour ago signs on", use)
		}
		early := newReign(t)
		old = early.keys[use]
		if err := early.trust.Succeed(succession(t, use, old, next, now.Add(time.Hour), now.Add(2*time.Hour), old.plain)); err != nil {
			t.Fatal(err)
		}
		early.keys[use] = next
		early.sit()
		if _, err := early.trust.VerifyReceipt(early.fresh()); err == nil {
			t.Errorf("%s: a key that begins in an hour signs now", use)
		}
	}
}

func TestSuccessionsThatAreNone(t *testing.T) {
	now := time.Now()
	r := newReign(t)
	permit, witness := r.keys["permit"], r.keys["witness"]
	next := newHeir(t, trefoil.SuccessionPermit, "monitor.example/permit")
	good := succession(t, trefoil.SuccessionPermit, permit, next, now, now.Add(time.Hour), permit.plain)
	for name, text := range map[string]string{
		"empty":        "",
		"altered":      strings.Replace(good, next.vkey, newHeir(t, trefoil.SuccessionPermit, "monitor.example/permit").vkey, 1),
		"another use":  strings.Replace(good, "\npermit\n", "\nlog\n", 1),
		"a bare text":  strings.SplitN(good, "\n\n", 2)[0] + "\n",
		"of a witness": strings.Replace(good, permit.vkey, witness.vkey, 1),
		"too long":     good + strings.Repeat("x", 5000),
	} {
		if text == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := r.trust.Succeed(text); err == nil {
			t.Errorf("%s: taken up", name)
		}
	}
	if err := r.trust.Succeed(good); err != nil {
		t.Error(err)
	}
	if err := r.trust.Succeed(good); err == nil {
		t.Error("taken up twice")
	}
	if _, err := trefoil.SignSuccession(trefoil.Succession{Use: trefoil.SuccessionLog, Old: r.keys["log"].vkey,
		New: newHeir(t, trefoil.SuccessionLog, "another.example/log").vkey, From: now, Until: now}, r.keys["log"].plain); err == nil {
		t.Error("a log changed its name")
	}
}

func TestStopsAreSignedAndCounted(t *testing.T) {
	key := newHeir(t, trefoil.SuccessionPermit, "monitor.example/stop")
	v, err := note.NewVerifier(key.vkey)
	if err != nil {
		t.Fatal(err)
	}
	s := trefoil.Stops{Monitor: "monitor.example", Epoch: 7, At: time.Now().UTC().Truncate(time.Second)}
	text, err := trefoil.SignStops(s, key.plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := trefoil.OpenStops(text, v); err != nil || got != s {
		t.Errorf("opened %+v, %v", got, err)
	}
	for name, bad := range map[string]string{"altered": strings.Replace(text, "\n7\n", "\n8\n", 1), "unsigned": strings.SplitN(text, "\n\n", 2)[0] + "\n", "empty": ""} {
		if _, err := trefoil.OpenStops(bad, v); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func FuzzReadSuccession(f *testing.F) {
	f.Add("")
	f.Add(trefoil.SuccessionHeader + "\npermit\na+00000000+AQ==\nb+00000000+AQ==\n2026-11-22T00:00:00Z\n2026-11-22T00:00:00Z\n\n\u2014 a AAAAAAA=\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := trefoil.ReadSuccession(text); err == nil {
			if again, err := trefoil.SignSuccession(s, fuzzSigner{}); err != nil || !strings.HasPrefix(text, strings.SplitN(again, "\n\n", 2)[0]) {
				t.Errorf("%q is read and cannot be written: %v", text, err)
			}
		}
	})
}

// fuzzSigner signs anything with nothing.
type fuzzSigner struct{}

func (fuzzSigner) Name() string                { return "fuzz" }
func (fuzzSigner) KeyHash() uint32             { return 1 }
func (fuzzSigner) Sign([]byte) ([]byte, error) { return []byte{1}, nil }
