package intake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// load makes a database with one of the schemas in testdata; "" is an empty one.
func load(t *testing.T, c *pgtest.Cluster, name string) string {
	t.Helper()
	with := ""
	if name == "latin1" {
		with = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
	}
	dsn := c.DatabaseWith(t, with)
	if name == "empty" {
		return dsn
	}
	sql, err := os.ReadFile(filepath.Join("testdata", name+".sql"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(sql)
	if name == "saas" && !hasCitext(t, c, dsn) {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "CREATE EXTENSION IF NOT EXISTS citext;", ""), "citext", "text")
	}
	c.Exec(t, dsn, "SET client_encoding = 'UTF8'; ALTER DATABASE "+dbname(t, dsn)+" SET client_encoding = 'UTF8'")
	c.Exec(t, dsn, text, "ANALYZE")
	c.Exec(t, dsn, "ALTER DATABASE "+dbname(t, dsn)+" RESET client_encoding")
	return dsn
}

func hasCitext(t *testing.T, c *pgtest.Cluster, dsn string) (has bool) {
	t.Helper()
	if err := c.Connect(t, dsn).QueryRow(testContext(t), "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext')").Scan(&has); err != nil {
		t.Fatal(err)
	}
	return has
}

func dbname(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Database
}

// expectation is what a person would say of a schema after reading it.
type expectation struct {
	person, key, residence string
	subjects               map[string]string // table → column:…, via:…, nobody, self, unknown
	columns                map[string]string // table.column → category/trait
	declared               int               // references that the schema does not declare
	held                   []string          // table.column=form that the first dataset holds
	never                  []string          // table.column that it must not hold
}

var expected = map[string]expectation{
	"store": {
		person: "public.Customer", key: "CustomerId",
		subjects: map[string]string{"public.Invoice": "column:CustomerId", "public.InvoiceLine": "via:InvoiceId", "public.Track": "nobody", "public.Employee": "unknown"},
		columns: map[string]string{"public.Customer.Email": "contact/", "public.Customer.FirstName": "identifier/", "public.Customer.PostalCode": "location/", "public.Invoice.Total": "financial/",
			"public.Employee.BirthDate": "behaviour/birth", "public.Customer.Fax": "contact/", "public.Genre.Name": "behaviour/neutral", "public.Invoice.InvoiceDate": "behaviour/time"},
		held:  []string{"public.Customer.CustomerId=pseudonymised", "public.Invoice.CustomerId=pseudonymised", "public.Invoice.InvoiceDate=generalised", "public.InvoiceLine.Quantity=clear", "public.Track.Name=clear"},
		never: []string{"public.Customer.Email", "public.Customer.Country", "public.Invoice.Total", "public.Invoice.BillingAddress"},
	},
	"rental": {
		person: "public.customer", key: "customer_id", residence: "country_code",
		subjects: map[string]string{"public.rental": "column:customer_id", "public.payment": "column:customer_id", "public.address": "unknown", "public.inventory": "nobody", "public.film": "nobody", "public.staff": "unknown"},
		columns:  map[string]string{"public.customer.email": "contact/", "public.payment.amount": "financial/", "public.staff.password": "identifier/", "public.film.rating": "behaviour/neutral"},
		held:     []string{"public.customer.country_code=clear", "public.payment.payment_id=pseudonymised", "public.rental.rental_date=generalised", "public.film.title=clear"},
		never:    []string{"public.customer.email", "public.customer.first_name", "public.payment.amount", "public.film.fulltext"},
	},
	"webapp": {
		person: "public.auth_user", key: "id", declared: 1,
		subjects: map[string]string{"public.accounts_profile": "column:user_id", "public.blog_comment": "column:user_id", "public.blog_post": "column:author_id", "public.activity_log": "column:user_id", "public.auth_group": "nobody"},
		columns: map[string]string{"public.auth_user.password": "identifier/", "public.accounts_profile.birth_date": "behaviour/birth", "public.accounts_profile.bio": "content/typed",
			"public.blog_comment.ip_address": "device/", "public.activity_log.remote_addr": "device/", "public.blog_post.status": "behaviour/", "public.accounts_profile.preferences": "content/"},
		held:  []string{"public.auth_user.id=pseudonymised", "public.accounts_profile.user_id=pseudonymised", "public.accounts_profile.birth_date=generalised", "public.blog_post.status=clear", "public.blog_like.created_at=generalised"},
		never: []string{"public.auth_user.email", "public.auth_user.username", "public.auth_user.password", "public.blog_post.body", "public.accounts_profile.preferences", "public.django_session.session_key"},
	},
	"legacy": {
		person: "public.Kunden", key: "KundenNr", residence: "Land", declared: 4,
		subjects: map[string]string{"public.Bestellungen": "column:KundenNr", "public.Order": "via:BestellNr", "public.Artikel": "nobody", "public.Konten.Bank": "column:KundenNr"},
		columns: map[string]string{"public.Kunden.GebDatum": "behaviour/birth", "public.Kunden.E-Mail": "contact/", "public.Kunden.Telefon": "contact/", "public.Kunden.Straße": "contact/", "public.Kunden.PLZ": "location/",
			"public.Konten.Bank.IBAN": "financial/", "public.Kunden.Anrede": "special/", "public.Bestellungen.Status": "behaviour/", "public.Kunden.Bemerkung": "content/typed"},
		held:  []string{"public.Kunden.KundenNr=pseudonymised", "public.Bestellungen.KundenNr=pseudonymised", "public.Kunden.Land=clear", "public.Kunden.GebDatum=generalised"},
		never: []string{"public.Kunden.Nachname", "public.Konten.Bank.IBAN", "public.Konten.Bank.Kontoinhaber", "public.Kunden.Bemerkung"},
	},
	"hospital": {
		person: "dossier.patients", key: "id", residence: "pays",
		subjects: map[string]string{"dossier.sejours": "column:patient_id", "dossier.actes": "via:patient_id", "facturation.factures": "via:acte_id", "réf.service": "nobody"},
		columns: map[string]string{"dossier.patients.date_naissance": "behaviour/birth", "dossier.patients.numéro_sécu": "identifier/", "dossier.patients.prénom": "identifier/", "dossier.patients.nom_complet": "identifier/",
			"dossier.actes.diagnostic": "special/", "facturation.factures.montant": "financial/", "facturation.factures.iban": "financial/", "dossier.patients.sexe": "special/", "dossier.patients.portable": "contact/"},
		held:  []string{"dossier.patients.id=pseudonymised", "dossier.actes.patient_id=pseudonymised", "dossier.patients.pays=clear", "facturation.factures.payée=clear"},
		never: []string{"dossier.patients.nom", "dossier.actes.diagnostic", "dossier.actes.mesures", "dossier.patients.nom_complet", "facturation.factures.iban"},
	},
	"latin1": {
		person: "public.élèves", key: "matricule", residence: "pays",
		subjects: map[string]string{"public.notes": "column:élève"},
		columns:  map[string]string{"public.élèves.prénom": "identifier/", "public.élèves.téléphone": "contact/", "public.notes.remarque": "content/typed"},
		held:     []string{"public.élèves.matricule=pseudonymised", "public.notes.élève=pseudonymised", "public.notes.matière=clear"},
		never:    []string{"public.élèves.nom", "public.notes.remarque"},
	},
	"saas": {
		person: "public.users", key: "id", residence: "country_code", declared: 2,
		subjects: map[string]string{"public.devices": "column:user_id", "public.projects": "column:owner_id", "public.comments": "column:author_id", "public.messages": "column:sender_id", "public.organizations": "nobody"},
		columns: map[string]string{"public.users.email": "contact/", "public.users.encrypted_password": "identifier/", "public.devices.push_token": "device/", "public.messages.recipient_id": "identifier/key",
			"public.messages.body": "content/typed", "public.users.current_sign_in_ip": "device/"},
		held:  []string{"public.messages.recipient_id=pseudonymised", "public.users.country_code=clear", "public.messages.read=clear"},
		never: []string{"public.users.email", "public.messages.body", "public.devices.push_token", "public.users.current_sign_in_ip"},
	},
}

func TestProposalsForSchemasThatNobodyTailored(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, c *pgtest.Cluster) {
		for name, want := range expected {
			t.Run(name, func(t *testing.T) {
				conn := c.Connect(t, load(t, c, name))
				p, err := Propose(testContext(t), conn, Options{Database: "source"})
				if err != nil {
					t.Fatal(err)
				}
				compare(t, p, want)
			})
		}
	})
}

func compare(t *testing.T, p *Proposal, want expectation) {
	t.Helper()
	cat := p.Catalog
	if got := cat.Person; got.Table != want.person || got.Key != want.key || got.Residence != want.residence {
		t.Errorf("person %+v, want %s %s %s", got, want.person, want.key, want.residence)
	}
	declared := 0
	for _, tb := range cat.Tables {
		for _, r := range tb.References {
			if r.Declared {
				declared++
				if r.Why == "" {
					t.Errorf("%s: a declared reference has no reason", tb.Table)
				}
			}
		}
		if w, ok := want.subjects[tb.Table]; ok && w != subjectText(tb.Subject) {
			t.Errorf("subject of %s is %s, want %s", tb.Table, subjectText(tb.Subject), w)
		}
		for _, col := range tb.Columns {
			if col.Reviewed || col.Why == "" {
				t.Errorf("%s.%s: reviewed %v, why %q", tb.Table, col.Name, col.Reviewed, col.Why)
			}
			if w, ok := want.columns[tb.Table+"."+col.Name]; ok && w != fmt.Sprintf("%s/%s", col.Category, col.Trait) {
				t.Errorf("%s.%s is %s/%s, want %s (%s)", tb.Table, col.Name, col.Category, col.Trait, w, col.Why)
			}
		}
	}
	if declared != want.declared {
		t.Errorf("%d declared references, want %d: %v", declared, want.declared, p.Notes)
	}
	held := map[string]string{}
	for _, dt := range p.Datasets.Datasets[0].Tables {
		for _, dc := range dt.Columns {
			held[dt.Table+"."+dc.Name] = string(dc.Form)
		}
	}
	for _, h := range want.held {
		name, form, _ := strings.Cut(h, "=")
		if held[name] != form {
			t.Errorf("the first dataset holds %s as %q, want %s", name, held[name], form)
		}
	}
	for _, n := range want.never {
		if held[n] != "" {
			t.Errorf("the first dataset holds %s as %s", n, held[n])
		}
	}
	validates(t, p)
}

func subjectText(s catalog.Subject) string {
	switch {
	case s.Self:
		return "self"
	case s.Nobody:
		return "nobody"
	case s.Column != "":
		return "column:" + s.Column
	case s.Via != "":
		return "via:" + s.Via
	}
	return "unknown"
}

// validates: as written, the only complaints are that nothing is reviewed; once reviewed,
// the files hold and the dataset is a pseudonymised one.
func validates(t *testing.T, p *Proposal) {
	t.Helper()
	files := func() *catalog.Files {
		f := &catalog.Files{}
		for name, v := range map[string]any{"catalog.yaml": p.Catalog, "datasets.yaml": p.Datasets, "purposes.yaml": p.Purposes} {
			src, err := encode(v)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "catalog.yaml":
				c, pos, err := catalog.ParseCatalog(name, src)
				if err != nil {
					t.Fatalf("%v\n%s", err, src)
				}
				f.Catalogs, f.CatalogPositions = append(f.Catalogs, c), append(f.CatalogPositions, pos)
			case "datasets.yaml":
				f.Datasets, f.DatasetsPositions, err = catalog.ParseDatasets(name, src)
			default:
				f.Purposes, f.PurposesPositions, err = catalog.ParsePurposes(name, src)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, src)
			}
		}
		return f
	}
	f := files()
	for _, e := range catalog.Validate(f) {
		if !strings.Contains(e.Message, "not reviewed") && !strings.Contains(e.Message, "rows") && !strings.Contains(e.Message, "condition") {
			t.Errorf("as written: %v", e)
		}
	}
	for i := range f.Catalogs[0].Tables {
		for j := range f.Catalogs[0].Tables[i].Columns {
			f.Catalogs[0].Tables[i].Columns[j].Reviewed = true
		}
	}
	for _, e := range catalog.Validate(f) {
		t.Errorf("once reviewed: %v", e)
	}
	def, err := catalog.Definition(&f.Datasets.Datasets[0], f.Catalogs[0], f.Purposes)
	if err != nil {
		t.Fatal(err)
	}
	if class, why := catalog.ClassOf(def); class != "pseudonymised" {
		t.Errorf("the first dataset is %s: %v", class, why)
	}
}

func TestNoPersonIsAMessageNotACrash(t *testing.T) {
	c := pgtest.Start(t)
	p, err := Propose(testContext(t), c.Connect(t, load(t, c, "weather")), Options{})
	if !errors.Is(err, ErrNoPerson) || len(p.Notes) == 0 || !strings.Contains(p.Notes[0], "person") {
		t.Fatalf("err %v, notes %v", err, p)
	}
	p, err = Propose(testContext(t), c.Connect(t, load(t, c, "empty")), Options{})
	if !errors.Is(err, ErrEmpty) {
		t.Fatalf("empty database: %v, %v", p, err)
	}
}
