package platform

import (
	"strconv"
	"strings"
)

// Canary is one clear value of the platform that must not be found where its column is not
// held clear.
type Canary struct {
	Column string // schema.table.column
	Person int64
	Value  string
}

// Canaries returns the clear values of n people spread evenly over the platform: all that
// is long and unique enough that finding its bytes means finding it.
func (p Platform) Canaries(n int64) []Canary {
	var out []Canary
	n = min(n, p.People)
	for i := range n {
		id := 1 + i*p.People/n
		x, d := p.Person(id), p.Device(id)
		sender, _, body := p.Message(id)
		out = append(out,
			Canary{"app.people.handle", id, x.Handle},
			Canary{"app.people.email", id, x.Email},
			Canary{"app.people.settings", id, x.recovery()},
			Canary{"app.devices.id", id, d.ID},
			Canary{"app.devices.push_token", id, d.PushToken},
			Canary{"app.messages.body", sender, body},
		)
		if x.Phone != "" {
			out = append(out, Canary{"app.people.phone", id, x.Phone})
		}
	}
	paid := min(n, p.Payments())
	for i := range paid {
		payer, iban := p.Payment(1 + i*p.Payments()/paid)
		out = append(out, Canary{"billing.payments.iban", payer, iban})
	}
	return out
}

// recovery is the address inside settings.
func (p Person) recovery() string {
	_, rest, _ := strings.Cut(p.Settings, `"email":"`)
	address, _, _ := strings.Cut(rest, `"`)
	return address
}

// Encodings returns every way the value's bytes could stand in a PostgreSQL file: as text,
// and for a UUID as its 16 bytes.
func (c Canary) Encodings() [][]byte {
	out := [][]byte{[]byte(c.Value)}
	if bare := strings.ReplaceAll(c.Value, "-", ""); strings.HasSuffix(c.Column, "devices.id") && len(bare) == 32 {
		raw := make([]byte, 16)
		for i := range raw {
			b, err := strconv.ParseUint(bare[2*i:2*i+2], 16, 8)
			if err != nil {
				return out
			}
			raw[i] = byte(b)
		}
		out = append(out, raw)
	}
	return out
}
