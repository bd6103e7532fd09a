package intake

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"text/template"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Settings are what init cannot read from a database.
type Settings struct {
	Dir      string
	From     string // DSN of the source, a URI
	Name     string // of the enclave; default the database's
	Exporter string // legal entity; empty: to be filled in
	Country  string // its country; empty: to be filled in
	Force    bool   // overwrite files that are there; keys and certificates are never replaced
	Policy   fs.FS  // the shipped policies
}

// ErrExists says that files are there already; nothing was written.
var ErrExists = errors.New("files are there already")

// Write writes the enclave's files: configuration, catalog, datasets, purposes, people,
// policies; and makes keys and certificates that are not there yet. It returns the names
// written, relative to Dir, sorted.
func Write(p *Proposal, s Settings) ([]string, error) {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("write files: %w", err)
	}
	files, password, err := render(p, s, dir)
	if err != nil {
		return nil, err
	}
	if !s.Force {
		if there := existing(dir, files); len(there) > 0 {
			return nil, fmt.Errorf("%w: %s in %s (--force overwrites them, never keys)", ErrExists, strings.Join(there, ", "), dir)
		}
	}
	written := make([]string, 0, len(files))
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("write files: %w", err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return nil, fmt.Errorf("write files: %w", err)
		}
		written = append(written, name)
	}
	made, err := makeSecrets(dir, enclaveName(p, s), password)
	written = append(written, made...)
	sort.Strings(written)
	return written, err
}

func existing(dir string, files map[string][]byte) []string {
	var there []string
	for name := range files {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			there = append(there, name)
		}
	}
	sort.Strings(there)
	return there
}

func enclaveName(p *Proposal, s Settings) string {
	if s.Name != "" {
		return fileName(s.Name)
	}
	return p.Catalog.Database
}

// render makes all files but secrets. The password of the source becomes a line of a pgpass
// file, so that enclave.yaml holds none.
func render(p *Proposal, s Settings, dir string) (map[string][]byte, string, error) {
	reader, service, control, pass, err := sourceDSNs(s.From, filepath.Join(dir, "keys", "pgpass"))
	if err != nil {
		return nil, "", err
	}
	var config bytes.Buffer
	err = enclaveTemplate.Execute(&config, map[string]string{
		"Name": enclaveName(p, s), "Exporter": s.Exporter, "Country": s.Country, "Database": p.Catalog.Database,
		"DBName": p.Schema.Database, "Reader": reader, "Service": service, "Control": control,
	})
	if err != nil {
		return nil, "", fmt.Errorf("render enclave.yaml: %w", err)
	}
	files := map[string][]byte{"enclave.yaml": config.Bytes(), "people.yaml": []byte(peopleText)}
	encode := func(name, head string, v any) {
		b, e := encode(v)
		err = errors.Join(err, e)
		files[name] = append([]byte(head), b...)
	}
	encode("catalog.yaml", catalogHead, p.Catalog)
	encode("purposes.yaml", purposesHead, p.Purposes)
	if p.Datasets != nil {
		encode("datasets.yaml", datasetsHead, p.Datasets)
	} else {
		files["datasets.yaml"] = []byte(datasetsHead + "version: 1\ndatasets: []\n")
	}
	if err != nil {
		return nil, "", err
	}
	if s.Policy == nil {
		return files, pass, nil
	}
	return files, pass, fs.WalkDir(s.Policy, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(s.Policy, path)
		files[filepath.Join("policy", path)] = b
		return err
	})
}

// sourceDSNs derives, from the DSN that init was given, the reader's (its password moved to
// a file), the gateway's and the control store's, and the pgpass line.
func sourceDSNs(from, passfile string) (reader, service, control, pass string, err error) {
	u, err := url.Parse(from)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", "", "", "", errors.New("the source must be given as a URI: postgres://USER@HOST:PORT/DATABASE")
	}
	cfg, err := pgx.ParseConfig(from)
	if err != nil {
		return "", "", "", "", errors.New("the source's URI does not parse") // pgx repeats the DSN, and so its password
	}
	query := u.Query()
	query.Del("password")
	query.Del("user")
	if u.Host == "" && query.Get("host") == "" {
		query.Set("host", cfg.Host)
	}
	base := url.URL{Scheme: "postgres", Host: u.Host, RawQuery: query.Encode()}
	if u.Host != "" && u.Port() == "" && query.Get("port") == "" {
		base.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(int(cfg.Port)))
	}
	s, c := base, base
	s.Path, c.Path = "/"+cfg.Database, "/trefoil"
	c.User = url.User("trefoil")
	r := s
	r.User = url.User(cfg.User)
	if cfg.Password != "" {
		query.Set("passfile", passfile)
		r.RawQuery = query.Encode()
		escape := strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace
		pass = strings.Join([]string{"*", "*", "*", escape(cfg.User), escape(cfg.Password)}, ":") + "\n"
	}
	q := c.Query()
	q.Set("passfile", passfile)
	c.RawQuery = q.Encode()
	return r.String(), s.String(), c.String(), pass, nil
}

// makeSecrets makes keys and certificates that are not there. The pgpass file is written
// once; later passwords are the operator's to add.
func makeSecrets(dir, name, pass string) ([]string, error) {
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	var made []string
	write := func(file string, content func() ([]byte, error)) error {
		path := filepath.Join(keys, file)
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
		b, err := content()
		if err != nil {
			return err
		}
		made = append(made, filepath.Join("keys", file))
		return os.WriteFile(path, b, 0o600)
	}
	random := func() ([]byte, error) { b := make([]byte, 32); _, err := rand.Read(b); return b, err }
	var errs []error
	for _, file := range []string{"pseudonyms", "staff", "statements", "digests"} {
		errs = append(errs, write(file, random))
	}
	errs = append(errs, write("monitor.token", func() ([]byte, error) {
		b, err := random()
		return []byte(hex.EncodeToString(b) + "\n"), err
	}))
	errs = append(errs, write("log", func() ([]byte, error) {
		skey, _, err := note.GenerateKey(rand.Reader, name+"/log")
		return []byte(skey + "\n"), err
	}))
	if pass != "" {
		errs = append(errs, write("pgpass", func() ([]byte, error) { return []byte(pass), nil }))
	}
	if err := errors.Join(errs...); err != nil {
		return made, fmt.Errorf("make keys: %w", err)
	}
	tls := filepath.Join(dir, "tls")
	ca, err := postgres.NewAuthority(tls, "authority", nil)
	if err != nil {
		return made, err
	}
	if _, err := ca.Server(tls, "gateway-server", "localhost", "127.0.0.1"); err != nil {
		return made, err
	}
	if _, err := ca.Client(tls, "gateway"); err != nil {
		return made, err
	}
	return append(made, "tls/authority.crt", "tls/gateway-server.crt", "tls/gateway.crt"), nil
}

func quoteYAML(s string) string { return strconv.Quote(s) }

var enclaveTemplate = template.Must(template.New("enclave.yaml").Funcs(template.FuncMap{"quote": quoteYAML}).Parse(enclaveText))
