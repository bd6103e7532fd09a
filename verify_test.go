package trefoil_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

// fails requires that err is a *VerifyError with the reason.
func fails(t *testing.T, err error, want trefoil.Reason) {
	t.Helper()
	var v *trefoil.VerifyError
	if !errors.As(err, &v) || v.Reason != want {
		t.Fatalf("error %v, want reason %q", err, want)
	}
}

func TestReceiptVerifies(t *testing.T) {
	w := newWorld(t)
	receipt := w.receipt(release(t, nil))
	text, err := receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := trefoil.ParseReceipt(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.trust.VerifyReceipt(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if b.Release.Rows != 3 || trefoil.Unpermitted(b) {
		t.Fatal("the body is not the record's")
	}
	again, err := parsed.Marshal()
	if err != nil || !bytes.Equal(again, text) {
		t.Fatalf("Marshal after Parse differs: %v", err)
	}
}

// TestForgedReceipts changes one thing of a good receipt at a time.
func TestForgedReceipts(t *testing.T) {
	for name, c := range map[string]struct {
		forge func(w *world, r *trefoil.Receipt)
		want  trefoil.Reason
	}{
		"body altered": {func(w *world, r *trefoil.Receipt) {
			r.Record.Body = bytes.Replace(r.Record.Body, []byte(`"rows":3`), []byte(`"rows":2`), 1)
		}, trefoil.ReasonInclusion},
		"body with another spelling": {func(w *world, r *trefoil.Receipt) {
			r.Record.Body = append(bytes.Clone(r.Record.Body), '\n')
		}, trefoil.ReasonRecord},
		"salt altered": {func(w *world, r *trefoil.Receipt) { r.Record.Salt[4] ^= 1 }, trefoil.ReasonInclusion},
		"salt cut": {func(w *world, r *trefoil.Receipt) {
			// Salt and body are hashed one after the other: the border must not move.
			r.Record.Salt = r.Record.Salt[:31]
		}, trefoil.ReasonRecord},
		"proof of another leaf": {func(w *world, r *trefoil.Receipt) {
			r.Proof = w.proof(1, w.checkpoint()).String()
		}, trefoil.ReasonInclusion},
		"index moved": {func(w *world, r *trefoil.Receipt) {
			r.Proof = strings.Replace(r.Proof, "index 5", "index 4", 1)
		}, trefoil.ReasonInclusion},
		"index beyond the tree": {func(w *world, r *trefoil.Receipt) {
			r.Proof = strings.Replace(r.Proof, "index 5", "index 500", 1)
		}, trefoil.ReasonInclusion},
		"proof garbled": {func(w *world, r *trefoil.Receipt) { r.Proof = r.Proof[1:] }, trefoil.ReasonFormat},
		"checkpoint of another origin": {func(w *world, r *trefoil.Receipt) {
			r.Proof = w.proof(5, sign(w.t, w.text("other.example", 13), w.log, w.one, w.two)).String()
		}, trefoil.ReasonOrigin},
		"checkpoint not signed by the log": {func(w *world, r *trefoil.Receipt) {
			r.Proof = w.proof(5, sign(w.t, w.text(origin, 13), w.one, w.two)).String()
		}, trefoil.ReasonLogSignature},
		"checkpoint signed by another key of the log's name": {func(w *world, r *trefoil.Receipt) {
			other, _, _ := witnesstest.Key(w.t, origin)
			r.Proof = w.proof(5, sign(w.t, w.text(origin, 13), other, w.one, w.two)).String()
		}, trefoil.ReasonLogSignature},
		"one cosignature missing": {func(w *world, r *trefoil.Receipt) {
			r.Proof = w.proof(5, sign(w.t, w.text(origin, 13), w.log, w.one)).String()
		}, trefoil.ReasonQuorum},
		"cosignature counted twice": {func(w *world, r *trefoil.Receipt) {
			r.Proof = w.proof(5, sign(w.t, w.text(origin, 13), w.log, w.one, w.one)).String()
		}, trefoil.ReasonQuorum},
		"forged cosignature": {func(w *world, r *trefoil.Receipt) {
			forger, _ := witnesstest.WitnessKey(w.t, "other.example/witness")
			r.Proof = w.proof(5, sign(w.t, w.text(origin, 13), w.log, w.one, forger)).String()
		}, trefoil.ReasonQuorum},
		"cosignature of another size": {func(w *world, r *trefoil.Receipt) {
			cp := sign(w.t, w.text(origin, 13), w.log, w.one)
			older := sign(w.t, w.text(origin, 12), w.two)
			_, line, _ := bytes.Cut(older, []byte("\n\n"))
			r.Proof = w.proof(5, append(cp, line...)).String()
		}, trefoil.ReasonQuorum},
		"no permit":     {func(w *world, r *trefoil.Receipt) { r.Permit = "" }, trefoil.ReasonNoPermit},
		"permit cut":    {func(w *world, r *trefoil.Receipt) { r.Permit = r.Permit[:len(r.Permit)-9] }, trefoil.ReasonPermit},
		"permit forged": {func(w *world, r *trefoil.Receipt) { r.Permit = strings.Replace(r.Permit, "\n5\n", "\n6\n", 1) }, trefoil.ReasonPermit},
		"permit by a witness's key": {func(w *world, r *trefoil.Receipt) {
			w.permit = w.one
			r.Permit = w.permitFor(5, r.Record, nil)
		}, trefoil.ReasonPermit},
		"permit by the log itself": {func(w *world, r *trefoil.Receipt) {
			w.permit = w.log
			r.Permit = w.permitFor(5, r.Record, nil)
		}, trefoil.ReasonPermit},
		"permit for another index": {func(w *world, r *trefoil.Receipt) {
			r.Permit = w.permitFor(4, r.Record, nil)
		}, trefoil.ReasonPermitOther},
		"permit for another record": {func(w *world, r *trefoil.Receipt) {
			r.Permit = w.permitFor(5, release(w.t, nil), nil)
		}, trefoil.ReasonPermitOther},
		"permit for another log": {func(w *world, r *trefoil.Receipt) {
			r.Permit = w.permitFor(5, r.Record, func(p *trefoil.Permit) { p.Origin = "log.example/dublin-2" })
		}, trefoil.ReasonPermitOther},
		"permit that had ended": {func(w *world, r *trefoil.Receipt) {
			r.Permit = w.permitFor(5, r.Record, func(p *trefoil.Permit) { p.Expires = time.Now().Add(-time.Hour) })
		}, trefoil.ReasonPermitTime},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.receipt(release(t, nil))
			c.forge(w, r)
			_, err := w.trust.VerifyReceipt(r)
			fails(t, err, c.want)
		})
	}
}

func TestRecordOfAnotherLogInThisLog(t *testing.T) {
	w := newWorld(t)
	r := w.receipt(release(t, func(b *trefoil.Body) { b.Origin = "log.example/hamar" }))
	_, err := w.trust.VerifyReceipt(r)
	fails(t, err, trefoil.ReasonOrigin)
}

func TestPermitIsNeededExactlyWhereSomethingLeaves(t *testing.T) {
	session := func(event, path string, unpermitted bool) func(*trefoil.Body) {
		return func(b *trefoil.Body) {
			b.Kind, b.Release = trefoil.KindSession, nil
			b.Session = &trefoil.SessionBody{Event: event, Path: path, Unpermitted: unpermitted}
		}
	}
	for name, c := range map[string]struct {
		change func(*trefoil.Body)
		want   trefoil.Reason
	}{
		"release":                    {nil, trefoil.ReasonNoPermit},
		"release, unpermitted":       {func(b *trefoil.Body) { b.Release.Unpermitted = true }, ""},
		"session start":              {session("start", "release", false), trefoil.ReasonNoPermit},
		"session start, unpermitted": {session("start", "release", true), ""},
		"session start, path unsaid": {session("start", "", false), trefoil.ReasonNoPermit},
		"session end":                {session("end", "release", false), ""},
		"service session":            {session("start", "service", false), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.receipt(release(t, c.change))
			r.Permit = ""
			b, err := w.trust.VerifyReceipt(r)
			if c.want != "" {
				fails(t, err, c.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "unpermitted") != trefoil.Unpermitted(b) {
				t.Fatal("the body does not say whether it was permitted")
			}
		})
	}
}

// TestTruncatedReceipts cuts a receipt at every byte: no part of it may verify.
func TestTruncatedReceipts(t *testing.T) {
	w := newWorld(t)
	text, err := w.receipt(release(t, nil)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(text) {
		r, err := trefoil.ParseReceipt(text[:n])
		if err != nil {
			continue
		}
		if _, err := w.trust.VerifyReceipt(r); err == nil {
			t.Fatalf("the first %d of %d bytes verify", n, len(text))
		}
	}
}

// TestReceiptsWithOneBitFlipped flips every bit of a receipt: not one of them may be free.
func TestReceiptsWithOneBitFlipped(t *testing.T) {
	w := newWorld(t)
	text, err := w.receipt(release(t, nil)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	bits := rand.Perm(8 * len(text))
	if testing.Short() {
		bits = bits[:2000]
	}
	for _, bit := range bits {
		bad := bytes.Clone(text)
		i := bit / 8
		bad[i] ^= 1 << (bit % 8)
		r, err := trefoil.ParseReceipt(bad)
		if err != nil {
			continue
		}
		if _, err := w.trust.VerifyReceipt(r); err == nil {
			t.Fatalf("byte %d changed from %q to %q, and it verifies", i, text[i], bad[i])
		}
	}
}

func TestTrustThatIsEmptyVerifiesNothing(t *testing.T) {
	w := newWorld(t)
	r := w.receipt(release(t, nil))
	for name, trust := range map[string]*trefoil.Trust{
		"nil": nil, "zero": {}, "no witness": {Log: w.trust.Log, Permit: w.trust.Permit},
		"no permit key":      {Log: w.trust.Log, Witnesses: w.trust.Witnesses},
		"impossible quorum":  {Log: w.trust.Log, Witnesses: w.trust.Witnesses, Quorum: 3, Permit: w.trust.Permit},
		"one witness, twice": {Log: w.trust.Log, Witnesses: append(w.trust.Witnesses[:1:1], w.trust.Witnesses[0]), Permit: w.trust.Permit},
	} {
		if _, err := trust.VerifyReceipt(r); err == nil {
			t.Errorf("%s: verifies", name)
		}
	}
	one := *w.trust
	one.Quorum = 1
	if _, err := one.VerifyReceipt(r); err != nil {
		t.Errorf("quorum of 1 of 2: %v", err)
	}
}

func TestExpiredAndFutureCosignaturesDoNotCount(t *testing.T) {
	w := newWorld(t)
	w.addOthers(3)
	cp := w.checkpoint()
	trust := *w.trust
	trust.At, trust.MaxAge = time.Now(), time.Hour
	if _, err := trust.VerifyCheckpoint(cp); err != nil {
		t.Fatal(err)
	}
	trust.At = time.Now().Add(2 * time.Hour)
	_, err := trust.VerifyCheckpoint(cp)
	fails(t, err, trefoil.ReasonQuorum)
	trust.At, trust.MaxAge = time.Now().Add(-time.Hour), 0
	_, err = trust.VerifyCheckpoint(cp)
	fails(t, err, trefoil.ReasonQuorum)
}

func TestParseTrustRefusesOneKeyTwice(t *testing.T) {
	_, _, logKey := witnesstest.Key(t, origin)
	_, _, permit := witnesstest.Key(t, "monitor.example/permit")
	_, _, second := witnesstest.Key(t, "monitor.example/permit2")
	_, witness := witnesstest.WitnessKey(t, "monitor.example/witness")
	renamed := renameCosigner(t, witness, "innocent.example")
	trust, err := trefoil.ParseTrust(logKey, []string{permit, witness})
	if err != nil || len(trust.Witnesses) != 1 || trust.Permit == nil {
		t.Fatalf("ParseTrust: %v", err)
	}
	for name, keys := range map[string][]string{
		"same witness":                  {witness, witness},
		"same key under another name":   {witness, renamed},
		"two permit keys":               {permit, second},
		"the log's own key":             {logKey},
		"garbage":                       {"monitor+00000000+AAAA"},
		"hash field of a cosigner lies": {strings.Replace(witness, "+", "+0", 1)},
	} {
		if _, err := trefoil.ParseTrust(logKey, keys); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
