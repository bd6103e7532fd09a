package incident

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// ReceiversFile is the name of the file that says who is told, inside the monitor's directory.
const ReceiversFile = "notify.yaml"

// receiversFile is notify.yaml. Paths are relative to the monitor's directory.
type receiversFile struct {
	Version   int            `yaml:"version"`
	Receivers []receiverRule `yaml:"receivers"`
}

// receiverRule is one receiver: exactly one of its three ways.
type receiverRule struct {
	Name    string      `yaml:"name"`
	Events  []string    `yaml:"events,omitempty"`
	Webhook *webhookWay `yaml:"webhook,omitempty"`
	SMTP    *smtpWay    `yaml:"smtp,omitempty"`
	File    string      `yaml:"file,omitempty"`
}

type webhookWay struct {
	URLFile   string `yaml:"url_file"` // a file: the path of a webhook's address often is its secret
	TokenFile string `yaml:"token_file,omitempty"`
}

type smtpWay struct {
	Server       string   `yaml:"server"` // host:port
	From         string   `yaml:"from"`
	To           []string `yaml:"to"`
	User         string   `yaml:"user,omitempty"`
	PasswordFile string   `yaml:"password_file,omitempty"`
	TLS          string   `yaml:"tls,omitempty"` // starttls (default) or implicit
}

var receiverName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)

// LoadReceivers reads dir/notify.yaml strictly; without the file nobody is told.
func LoadReceivers(dir string) ([]Receiver, error) {
	path := filepath.Join(dir, ReceiversFile)
	src, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read receivers: %w", err)
	}
	return ParseReceivers(path, dir, src)
}

// ParseReceivers decodes notify.yaml. The error lists everything that is wrong.
func ParseReceivers(file, dir string, src []byte) ([]Receiver, error) {
	var f receiversFile
	pos, err := strict.DecodeWithPositions(file, src, &f)
	errs := strict.All(file, err)
	want := func(ok bool, path, text string) {
		if !ok {
			errs = append(errs, pos.Errorf(path, "%s", text))
		}
	}
	want(f.Version == 1, "version", "must be 1")
	seen := map[string]bool{}
	var out []Receiver
	for i, r := range f.Receivers {
		at := fmt.Sprintf("receivers[%d]", i)
		want(receiverName.MatchString(r.Name) && !seen[r.Name], at+".name", "must be lower case letters, digits and hyphens, and given once")
		seen[r.Name] = true
		for j, e := range r.Events {
			want(slices.Contains([]string{eventOpened, eventSeen, eventTriaged, eventMet, eventClosed, eventWarned, eventOverdue}, e),
				fmt.Sprintf("%s.events[%d]", at, j), "must be opened, seen, triaged, met, closed, warned or overdue")
		}
		out = append(out, Receiver{Name: r.Name, Events: r.Events, to: r.way(at, dir, want)})
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// way checks how a receiver is told.
func (r *receiverRule) way(at, dir string, want func(bool, string, string)) deliverer {
	inside := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	ways := 0
	for _, set := range []bool{r.Webhook != nil, r.SMTP != nil, r.File != ""} {
		if set {
			ways++
		}
	}
	want(ways == 1, at, "needs exactly one of webhook, smtp and file")
	switch {
	case ways != 1:
		return nil
	case r.Webhook != nil:
		want(r.Webhook.URLFile != "", at+".webhook.url_file", "is missing: the file that holds the address")
		return newWebhook(inside(r.Webhook.URLFile), inside(r.Webhook.TokenFile))
	case r.File != "":
		return toFile{inside(r.File)}
	}
	s := r.SMTP
	_, _, err := net.SplitHostPort(s.Server)
	want(err == nil, at+".smtp.server", "must be host:port")
	want(s.TLS == "" || s.TLS == "starttls" || s.TLS == "implicit", at+".smtp.tls", "must be starttls or implicit")
	want((s.User == "") == (s.PasswordFile == ""), at+".smtp.user", "user and password_file go together")
	want(len(s.To) > 0, at+".smtp.to", "is missing")
	plain := func(path, address string) {
		a, err := mail.ParseAddress(address)
		want(err == nil && a.Address == address, path, "must be a bare mail address")
	}
	plain(at+".smtp.from", s.From)
	for j, to := range s.To {
		plain(fmt.Sprintf("%s.smtp.to[%d]", at, j), to)
	}
	return mailer{server: s.Server, from: s.From, to: s.To, user: s.User, passwordFile: inside(s.PasswordFile), implicit: s.TLS == "implicit"}
}
