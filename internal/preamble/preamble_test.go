package preamble

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"
)

var testKey = bytes.Repeat([]byte{9}, 32)

func sample(id byte, at time.Time) *Preamble {
	p := &Preamble{Client: netip.MustParseAddrPort("203.0.113.7:50123"), Valve: netip.MustParseAddrPort("198.51.100.1:5432"), At: at}
	p.ID[0] = id
	return p
}

func guardAt(now *time.Time) *Guard { return NewGuard(testKey, func() time.Time { return *now }) }

func TestPreambleComesBack(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_123)
	for _, client := range []string{"203.0.113.7:50123", "[2001:db8::7]:50123", "[::ffff:203.0.113.7]:1"} {
		p := sample(1, now)
		p.Client = netip.MustParseAddrPort(client)
		r := bytes.NewReader(append(p.Append(nil, testKey), "what follows"...))
		got, err := guardAt(&now).Read(r)
		if err != nil {
			t.Fatalf("%s: %v", client, err)
		}
		if want := netip.AddrPortFrom(p.Client.Addr().Unmap(), p.Client.Port()); got.Client != want || got.ID != p.ID || got.Valve != p.Valve || !got.At.Equal(now) {
			t.Errorf("%s: got %+v, want %+v", client, got, p)
		}
		if r.Len() != len("what follows") {
			t.Errorf("%s: %d bytes left, want those of what follows", client, r.Len())
		}
	}
}

// TestForgedPreambles: every byte counts, and so does the key.
func TestForgedPreambles(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	good := sample(1, now).Append(nil, testKey)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, err := guardAt(&now).Read(bytes.NewReader(append(b, make([]byte, 64)...))); err == nil {
			t.Errorf("byte %d altered: accepted", i)
		}
	}
	other := sample(1, now).Append(nil, bytes.Repeat([]byte{8}, 32))
	if _, err := guardAt(&now).Read(bytes.NewReader(other)); !errors.Is(err, ErrInvalid) {
		t.Errorf("another key: %v, want ErrInvalid", err)
	}
	if _, err := NewGuard(nil, func() time.Time { return now }).Read(bytes.NewReader(sample(1, now).Append(nil, nil))); !errors.Is(err, ErrInvalid) {
		t.Errorf("no key: %v, want ErrInvalid", err)
	}
	for i := range good {
		if _, err := guardAt(&now).Read(bytes.NewReader(good[:i])); err == nil {
			t.Errorf("cut at %d: accepted", i)
		}
	}
}

func TestReplayedPreambles(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	g := guardAt(&now)
	early := sample(1, now.Add(Fresh-time.Second)).Append(nil, testKey) // its valve's clock is ahead
	if _, err := g.Read(bytes.NewReader(early)); err != nil {
		t.Fatal(err)
	}
	for range 130 { // as long as it is fresh it is known, and then it is old
		if _, err := g.Read(bytes.NewReader(early)); !errors.Is(err, ErrInvalid) {
			t.Fatalf("replayed at %v: %v, want ErrInvalid", now, err)
		}
		now = now.Add(time.Second)
	}
	if _, err := g.Read(bytes.NewReader(sample(2, now.Add(-Fresh-time.Second)).Append(nil, testKey))); !errors.Is(err, ErrInvalid) {
		t.Errorf("old: %v, want ErrInvalid", err)
	}
	if _, err := g.Read(bytes.NewReader(sample(3, now).Append(nil, testKey))); err != nil {
		t.Errorf("a fresh one after all that: %v", err)
	}
}

// FuzzRead: whatever comes, nothing without the key's MAC is believed.
func FuzzRead(f *testing.F) {
	now := time.UnixMilli(1_800_000_000_000)
	f.Add(sample(1, now).Append(nil, bytes.Repeat([]byte{1}, 32)))
	f.Add([]byte(signature))
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := guardAt(&now).Read(bytes.NewReader(b)); err == nil || p != nil {
			t.Errorf("%x: accepted %+v", b, p)
		}
	})
}
