package platform

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Platform is a generated platform: a seed and a number of people. Everything else scales
// with People.
type Platform struct {
	Seed   uint64
	People int64
}

// Devices is the number of devices: 13 for every ten people.
func (p Platform) Devices() int64 { return p.People * 13 / 10 }

// Videos is the number of videos: one for every ten people.
func (p Platform) Videos() int64 { return max(1, p.People/10) }

// Events is the number of watch events: ten for every person.
func (p Platform) Events() int64 { return p.People * 10 }

// Messages is the number of messages.
func (p Platform) Messages() int64 { return p.People }

// Payments is the number of payments: one for every five people.
func (p Platform) Payments() int64 { return max(1, p.People/5) }

// months is how far back the watch events go: one partition each.
const months = 6

// someone draws a person, the first of them more often.
func (p Platform) someone(r *rand.Rand) int64 {
	return 1 + min(r.Int64N(p.People), r.Int64N(p.People))
}

func moment(r *rand.Rand, days int64) time.Time {
	return epoch.Add(-time.Duration(1+r.Int64N(days*24*3600)) * time.Second)
}

func (p Platform) personRow(l *line, id int64) {
	x := p.Person(id)
	l.int(x.ID)
	l.text(x.Handle)
	l.text(x.DisplayName)
	l.text(x.Email)
	l.textOrNull(x.Phone)
	l.date(x.BirthDate)
	l.text(x.Country)
	l.textOrNull(x.CountryBefore)
	l.date(x.CountryChanged)
	l.text(x.SignupIP)
	l.text(x.Plan)
	l.array(x.Interests)
	l.text(x.Settings)
	l.time(x.CreatedAt)
}

// Device is what a byte search wants to know of a row of app.devices.
type Device struct {
	ID        string // UUID
	PersonID  int64
	PushToken string
	LastIP    string
}

// Device returns row i of app.devices, 1 ≤ i ≤ Devices. The first People rows are one for
// each person.
func (p Platform) Device(i int64) Device {
	r := draw(p.Seed, drawDevice, i)
	d := Device{PersonID: i}
	if i > p.People {
		d.PersonID = p.someone(r)
	}
	hi, lo := r.Uint64()&^0xf000|0x4000, r.Uint64()&^(3<<62)|1<<63
	d.ID = fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
	d.PushToken = fmt.Sprintf("tok_%016x%016x", r.Uint64(), r.Uint64())
	d.LastIP = address(r)
	return d
}

func (p Platform) deviceRow(l *line, i int64) {
	d := p.Device(i)
	r := draw(p.Seed, drawDevice, -i)
	l.text(d.ID)
	l.int(d.PersonID)
	l.text(models[r.IntN(len(models))])
	l.text(systems[r.IntN(len(systems))])
	l.text(d.PushToken)
	l.text(d.LastIP)
	l.time(moment(r, 90))
}

func (p Platform) videoRow(l *line, i int64) {
	r := draw(p.Seed, drawVideo, i)
	l.int(i)
	l.int(p.someone(r))
	l.int(1 + r.Int64N(int64(len(topics))))
	l.text(sentence(r, 3+r.IntN(4)))
	l.int(10 + r.Int64N(590))
	l.time(moment(r, 3*365))
}

func (p Platform) eventRow(l *line, i int64) {
	r := draw(p.Seed, drawEvent, i)
	l.int(i)
	l.int(p.someone(r))
	l.int(1 + min(r.Int64N(p.Videos()), r.Int64N(p.Videos()), r.Int64N(p.Videos())))
	l.int(r.Int64N(600_000))
	l.time(moment(r, 150))
}

// Message returns sender, recipient and text of row i of app.messages, 1 ≤ i ≤ Messages.
// The text ends in a number, so that no two are equal and a byte search for one cannot hit
// another.
func (p Platform) Message(i int64) (sender, recipient int64, body string) {
	r := draw(p.Seed, drawMessage, i)
	sender, recipient = p.someone(r), p.someone(r)
	return sender, recipient, sentence(r, 4+r.IntN(12)) + fmt.Sprintf(" #%d-%06x", i, r.IntN(1<<24))
}

func (p Platform) messageRow(l *line, i int64) {
	sender, recipient, body := p.Message(i)
	l.int(i)
	l.int(sender)
	l.int(recipient)
	l.text(body)
	l.time(moment(draw(p.Seed, drawMessage, -i), 365))
}

// Payment returns the payer and the IBAN of row i of billing.payments, 1 ≤ i ≤ Payments.
func (p Platform) Payment(i int64) (person int64, iban string) {
	r := draw(p.Seed, drawPayment, i)
	person = p.someone(r)
	return person, p.Person(person).iban(r)
}

func (p Platform) paymentRow(l *line, i int64) {
	person, iban := p.Payment(i)
	r := draw(p.Seed, drawPayment, -i)
	currency := "EUR"
	switch p.Person(person).Country {
	case "GB":
		currency = "GBP"
	case "CH":
		currency = "CHF"
	}
	l.int(i)
	l.int(person)
	l.text(iban)
	l.text(fmt.Sprintf("%d.%02d", r.IntN(200), r.IntN(100)))
	l.text(currency)
	l.time(moment(r, 365))
}

func topicRow(l *line, i int64) {
	l.int(i)
	l.text(topics[i-1])
}

func sentence(r *rand.Rand, n int) string {
	b := make([]byte, 0, n*6)
	for i := range n {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, words[r.IntN(len(words))]...)
	}
	return string(b)
}
