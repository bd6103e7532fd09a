package valve

import (
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
)

// keeping is what a connection's file is given. The zero value keeps nothing.
type keeping struct{ file *kept.File }

// keep begins the connection's file. What cannot be kept does not pass.
func (r *relay) keep() bool {
	if r.v.c.Keep == nil {
		return true
	}
	f, err := r.v.c.Keep.Begin(r.id)
	r.kept.file = f
	return r.kept.went(r, err)
}

// went closes the connection's way when keeping failed.
func (k keeping) went(r *relay, err error) bool {
	if err != nil {
		r.v.c.Logger.Error("connection closed: its ciphertext cannot be kept", "valve", r.name(), "error", err)
	}
	return err == nil
}

// down keeps bytes before they pass toward the client.
func (k keeping) down(r *relay, b []byte) bool { return k.file == nil || k.went(r, k.file.Down(b)) }

// up passes on and keeps the first bytes that the client sends: an audit needs its hello. It
// reports whether the rest may follow.
func (k keeping) up(r *relay) bool {
	if k.file == nil {
		return true
	}
	buf := make([]byte, kept.Head)
	for left := len(buf); left > 0; {
		n, err := r.client.Read(buf[:left])
		left -= n
		if n > 0 && !k.went(r, k.file.Up(buf[:n])) {
			return false
		}
		if _, failed := r.gateway.Write(buf[:n]); failed != nil {
			return false
		}
		if err != nil {
			return true // the copy that follows meets it again
		}
	}
	return true
}

func (k keeping) done(r *relay) {
	if k.file != nil {
		k.went(r, k.file.Close())
	}
}
