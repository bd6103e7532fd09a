package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"golang.org/x/mod/sumdb/note"
)

const origin = "bench.example/log"

// rulesText is the whole of a monitoring firm's rules, with 40 principals.
const rulesText = `version: 1
name: monitor.example
token: keys/token
bodies_token: keys/bodies-token
staff_key: keys/staff
logs: [ { origin: ORIGIN, key: LOGKEY, url: "LOGURL", token: keys/log-token } ]
exporter: { name: Example Ltd, country: IE, role: controller }
entities:
  ie: { name: Example Ltd, country: IE, role: controller }
  cn: { name: Example Beijing, country: CN, role: processor }
principals:
PRINCIPALS
instruments:
  - { id: scc-cn, article: "46", date: "2026-01-15", entity: cn, purposes: [product-analytics], tia: tia-3, tia_date: "2026-01-10", until: "2099-01-15" }
datasets:
  - name: analytics
    purpose: product-analytics
    cluster: outside
    regimes: [EU]
    open: [ { groups: [analysts], where: elsewhere, class: pseudonymised } ]
transfer_purposes: [product-analytics]
clock_doubt: 24h
permit_term: 10m
`

// bench is a monitor and a log that it watches.
type bench struct {
	dir, site string // the monitor's, the log's
	staff     []byte
	log       *accesslog.Log
	m         *monitor.Monitor
	signer    note.Signer
	witness   string
	servers   []*http.Server
	mux       *http.ServeMux // of the log
	monitor   string         // URL
	token     string
	trust     *trefoil.Trust
	bodies    uint64
}

// asked is one record that a permit is asked for.
type asked struct {
	ticket *accesslog.Ticket
	record trefoil.Record
	proof  *trefoil.Proof
}

func newBench(ctx context.Context, dir string) (b *bench, err error) {
	b = &bench{dir: filepath.Join(dir, "monitor"), site: filepath.Join(dir, "site"), staff: []byte(strings.Repeat("k", 32)), mux: http.NewServeMux()}
	logURL, err := b.serve(b.mux)
	if err != nil {
		return nil, err
	}
	if err := b.setUp(logURL); err != nil {
		return nil, err
	}
	if b.m, err = monitor.New(ctx, monitor.Config{Dir: b.dir, JournalPart: 1 << 20}); err != nil {
		return nil, err
	}
	if b.monitor, err = b.serve(b.m.Handler()); err != nil {
		return nil, err
	}
	b.log, err = accesslog.Open(ctx, accesslog.Config{Origin: origin, Directory: b.site, Signer: b.signer, Quorum: 1,
		Witnesses: []accesslog.Witness{{URL: b.monitor, Key: b.witness}}})
	if err != nil {
		return nil, err
	}
	b.mux.Handle("/", b.log.Handler("log-token"))
	return b, b.acknowledge(ctx)
}

// serve serves h on a port of its own.
func (b *bench) serve(h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	b.servers = append(b.servers, s)
	go func() { _ = s.Serve(l) }() // until close
	return "http://" + l.Addr().String(), nil
}

// setUp writes keys and rules.
func (b *bench) setUp(logURL string) error {
	keys, err := monitor.Init(b.dir, "monitor.example")
	if err != nil {
		return err
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	if b.signer, err = note.NewSigner(skey); err != nil {
		return err
	}
	b.witness = keys.Witness
	if b.trust, err = trefoil.ParseTrust(vkey, []string{keys.Witness, keys.Permit}); err != nil {
		return err
	}
	var people strings.Builder
	for i := range 40 {
		fmt.Fprintf(&people, "  - { id: analyst%d, employer: cn, workplace: CN, groups: [analysts] }\n", i)
	}
	text := strings.NewReplacer("ORIGIN", origin, "LOGKEY", vkey, "LOGURL", logURL, "PRINCIPALS\n", people.String()).Replace(rulesText)
	for name, data := range map[string]string{monitor.RulesFile: text, "keys/staff": string(b.staff), "keys/log-token": "log-token\n"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(data), 0o600); err != nil {
			return err
		}
	}
	token, err := os.ReadFile(filepath.Join(b.dir, "keys", "token"))
	b.token = strings.TrimSpace(string(token))
	return err
}

// definition is a pseudonymised dataset of the size of a real one.
func definition() *trefoil.Definition {
	d := &trefoil.Definition{Cluster: "outside", K: 10, Name: "analytics", Purpose: "product-analytics", Person: "app.users", Regimes: []string{"EU"},
		Rows: map[string]string{"residence": "EEA"}}
	d.Columns = append(d.Columns, trefoil.DefinedColumn{Category: "behaviour", Column: "seconds", Form: "clear", Table: "app.watches", Type: "integer"},
		trefoil.DefinedColumn{Category: "identifier", Column: "id", Detail: "user", Form: "pseudonymised", Table: "app.users", Trait: "key", Type: "bigint"})
	return d
}

// acknowledge has the definition acknowledged.
func (b *bench) acknowledge(ctx context.Context) error {
	d := definition()
	r, err := b.append(ctx, &trefoil.Body{At: time.Now().UTC(), Kind: trefoil.KindCatalog, Origin: origin,
		Catalog: &trefoil.CatalogBody{Definition: d, Event: "defined", Hash: trefoil.DefinitionHash(d)}})
	if err != nil {
		return err
	}
	if r.proof, err = r.ticket.Witnessed(ctx); err != nil {
		return err
	}
	answer, err := b.m.Acknowledge(&trefoil.PermitRequest{Body: r.record.Body, Salt: r.record.Salt, Proof: r.proof.String()})
	if err == nil && answer.Refusal != nil {
		err = errors.New("acknowledgement refused: " + answer.Refusal.Reason)
	}
	return err
}

func (b *bench) append(ctx context.Context, body *trefoil.Body) (*asked, error) {
	rec, err := trefoil.NewRecord(body)
	if err != nil {
		return nil, err
	}
	ticket, err := b.log.Append(ctx, rec, []byte("opening"))
	b.bodies++
	return &asked{ticket: ticket, record: rec}, err
}

// hexOf is n random bytes in hex.
func hexOf(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// access is what an honest gateway would say of one session of principal i.
func (b *bench) access(i int) trefoil.Access {
	d, at := definition(), time.Now().UTC()
	return trefoil.Access{Dataset: d.Name, Purpose: d.Purpose, Exporter: trefoil.Party{Country: "IE", Entity: "Example Ltd", Role: "controller"},
		Importer: trefoil.Party{Country: "CN", Entity: "Example Beijing", Role: "processor"}, Forms: d.Forms(),
		Principal: trefoil.StaffPseudonym(b.staff, at, fmt.Sprintf("analyst%d", i%40)), Session: hexOf(16),
		Hashes: trefoil.Hashes{Binary: strings.Repeat("b", 64), Catalog: strings.Repeat("c", 64), Dataset: trefoil.DefinitionHash(d),
			Law: strings.Repeat("1", 64), Policy: strings.Repeat("2", 64)},
		Instrument: trefoil.Instrument{Article: "46", ID: "scc-cn", Date: "2026-01-15", TIA: "tia-3", TIADate: "2026-01-10", Transfer: true},
		Location: []trefoil.Place{{At: at, By: "hr", Country: "CN", Evidence: "declared", Source: "employer"},
			{At: at, By: "mmdb", Country: "CN", Evidence: "network", Source: "network"},
			{At: at, By: "hr", Country: "CN", Evidence: "declared", Source: "workplace"}}}
}

// session is the bodies of one session: a start, releases, an end.
func (b *bench) session(i, releases int) []*trefoil.Body {
	a, at := b.access(i), time.Now().UTC()
	out := []*trefoil.Body{{At: at, Kind: trefoil.KindSession, Origin: origin,
		Session: &trefoil.SessionBody{Access: a, Allowance: 65536, Event: "start", Path: "release"}}}
	total := int64(0)
	for chunk := range int64(releases) {
		n := 300 + (int64(i)*7919+chunk*104729)%90000
		total += n
		out = append(out, &trefoil.Body{At: at.Add(time.Duration(chunk) * 731 * time.Millisecond), Kind: trefoil.KindRelease, Origin: origin,
			Release: &trefoil.ReleaseBody{Access: a, Bytes: n, Chunk: chunk, Cumulative: total, Final: true, Outcome: "complete", Result: hexOf(32),
				Rows: n / 90, Statements: []trefoil.Statement{{Commitment: hexOf(32), Fingerprint: fmt.Sprintf("%016x", (i*31+int(chunk))%97),
					Kind: "select", Tables: []string{"app.users", "app.watches"}}}}})
	}
	return append(out, &trefoil.Body{At: at.Add(time.Minute), Kind: trefoil.KindSession, Origin: origin,
		Session: &trefoil.SessionBody{Access: a, Covered: 4000, Event: "end", Outcome: "closed", Path: "release", Released: total}})
}

func (b *bench) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if b.log != nil {
		errs = append(errs, b.log.Close(ctx))
	}
	if b.m != nil {
		errs = append(errs, b.m.Close(ctx))
	}
	for _, s := range b.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
