package valve

import (
	"io"
	"net"
	"testing"
)

// BenchmarkRoundTrip is an answer of 100 bytes to a question of 100, directly and through the
// valve: the difference of the two is what the valve adds.
func BenchmarkRoundTrip(b *testing.B) {
	p := newPlace(b, Limits{})
	near, far, said := p.dial(p.address)
	id, err := p.guard.Read(said)
	if err != nil {
		b.Fatal(err)
	}
	p.monitor.credit(id.Name(), 0, 1<<40, 1)
	directNear, directFar, _ := p.dial(p.gateway.Addr().String())
	for _, way := range []struct {
		name      string
		near, far net.Conn
	}{{"direct", directNear, directFar}, {"valve", near, far}} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.CopyBuffer(struct{ io.Writer }{way.far}, struct{ io.Reader }{way.far}, make([]byte, 100))
		}()
		b.Run(way.name, func(b *testing.B) {
			buf := make([]byte, 100)
			for b.Loop() {
				if _, err := way.near.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(way.near, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		way.near.Close()
		way.far.Close()
		<-done
	}
}

// dial connects to address and returns both ends.
func (p *place) dial(address string) (near, far net.Conn, said io.Reader) {
	p.t.Helper()
	near, err := net.Dial("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	if far, err = p.gateway.Accept(); err != nil {
		p.t.Fatal(err)
	}
	return near, far, far
}
