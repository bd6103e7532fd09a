package trefoil_test

import (
	"bytes"
	"crypto/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"golang.org/x/mod/sumdb/note"
)

// sameAsDecodeBody holds of every text: a Decoder, fresh or not, takes what DecodeBody takes.
func sameAsDecodeBody(t *testing.T, d *trefoil.Decoder, enc []byte) {
	t.Helper()
	want, wantErr := trefoil.DecodeBody(enc)
	for _, d := range []*trefoil.Decoder{d, trefoil.NewDecoder()} {
		for range 2 {
			got, err := d.Decode(enc)
			if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
				t.Fatalf("Decode gives %+v, %v; DecodeBody %+v, %v; of %s", got, err, want, wantErr, enc)
			}
		}
	}
}

func TestDecoderTakesWhatDecodeBodyTakes(t *testing.T) {
	d := trefoil.NewDecoder()
	b := fullBody(t, trefoil.KindRelease)
	enc, err := trefoil.EncodeBody(b)
	if err != nil {
		t.Fatal(err)
	}
	sameAsDecodeBody(t, d, enc)
	for i := range enc { // each byte taken out, doubled, or another
		sameAsDecodeBody(t, d, append(append([]byte{}, enc[:i]...), enc[i+1:]...))
		sameAsDecodeBody(t, d, append(append(append([]byte{}, enc[:i]...), enc[i]), enc[i:]...))
		for _, c := range []byte(`"}0`) {
			other := bytes.Clone(enc)
			other[i] = c
			sameAsDecodeBody(t, d, other)
		}
	}
	for _, kind := range []trefoil.Kind{trefoil.KindSession, trefoil.KindRefusal, trefoil.KindSummary} {
		enc, err := trefoil.EncodeBody(fullBody(t, kind))
		if err != nil {
			t.Fatal(err)
		}
		sameAsDecodeBody(t, d, enc)
	}
	for _, change := range []func(b *trefoil.Body){
		func(b *trefoil.Body) { b.Origin = `a"b` }, func(b *trefoil.Body) { b.Origin = "é" },
		func(b *trefoil.Body) { b.Origin = `x","release":{"access":{}` },
		func(b *trefoil.Body) { b.Release.Access.Dataset = `}"{\` }, func(b *trefoil.Body) { b.Release.Unpermitted = true },
		func(b *trefoil.Body) { b.Release.SQLState = "" }, func(b *trefoil.Body) { b.Release.Statements = nil },
		func(b *trefoil.Body) { b.At = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC) },
	} {
		b := fullBody(t, trefoil.KindRelease)
		change(b)
		enc, err := trefoil.EncodeBody(b)
		if err != nil {
			t.Fatal(err)
		}
		sameAsDecodeBody(t, d, enc)
	}
}

func FuzzDecoder(f *testing.F) {
	for _, kind := range []trefoil.Kind{trefoil.KindRelease, trefoil.KindSession} {
		enc, err := trefoil.EncodeBody(fullBody(f, kind))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	d := trefoil.NewDecoder()
	f.Fuzz(func(t *testing.T, enc []byte) { sameAsDecodeBody(t, d, enc) })
}

func TestUncheckedPermitIsWhatOpenPermitReads(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "monitor.example/permit")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	want := trefoil.Permit{Origin: "log.example", Index: 7, Leaf: [32]byte{1}, Expires: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), StopEpoch: 2}
	text, err := trefoil.SignPermit(want, s)
	if err != nil {
		t.Fatal(err)
	}
	p, message, signature, err := trefoil.UncheckedPermit(text, v.Name(), v.KeyHash())
	if err != nil || p != want || !v.Verify(message, signature) {
		t.Fatalf("%+v, %v", p, err)
	}
	other, _, err := note.GenerateKey(rand.Reader, "monitor.example/permit")
	if err != nil {
		t.Fatal(err)
	}
	os, err := note.NewSigner(other)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := trefoil.SignPermit(want, os)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := trefoil.UncheckedPermit(foreign, v.Name(), v.KeyHash()); err == nil {
		t.Error("a permit of another key of the same name was read")
	}
	// Whatever is altered: it is not read, or its signature does not verify, or OpenPermit takes it too.
	for i := range text {
		for _, c := range []string{"", "x", "\n", "1", "="} {
			altered := text[:i] + c + text[i+1:]
			p, message, signature, err := trefoil.UncheckedPermit(altered, v.Name(), v.KeyHash())
			if err != nil || !v.Verify(message, signature) {
				continue
			}
			if q, err := trefoil.OpenPermit(altered, v); err != nil || q != p {
				t.Fatalf("byte %d as %q: read as %+v; OpenPermit says %v", i, c, p, err)
			}
		}
	}
	if _, _, _, err := trefoil.UncheckedPermit(strings.Repeat(text, 30), v.Name(), v.KeyHash()); err == nil {
		t.Error("a text of many permits was read")
	}
}

// BenchmarkDecode reads one release record, each way.
func BenchmarkDecode(b *testing.B) {
	enc, err := trefoil.EncodeBody(fullBody(b, trefoil.KindRelease))
	if err != nil {
		b.Fatal(err)
	}
	d := trefoil.NewDecoder()
	for name, decode := range map[string]func([]byte) (*trefoil.Body, error){"alone": trefoil.DecodeBody, "among-many": d.Decode} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := decode(enc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
