package incident

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/mail"
	"net/smtp"
	"net/url"
	"os"
	"strings"
	"time"
)

// errNotTaken means that the receiver cannot be reached or did not take the notice. Its text
// names no address: the path of a webhook often is its secret.
var errNotTaken = errors.New("receiver did not take the notice")

// webhook posts each notice as JSON. The address and the token are read from their files at each
// delivery, so that they can be changed without a restart.
type webhook struct {
	urlFile, tokenFile string
	client             *http.Client
}

func newWebhook(urlFile, tokenFile string) webhook {
	return webhook{urlFile, tokenFile, &http.Client{
		Timeout:       deliverTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second},
	}}
}

func readLine(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read receiver's file: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func (h webhook) deliver(ctx context.Context, n *Notice) error {
	address, err := readLine(h.urlFile)
	if err != nil {
		return err
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("%w: its file holds no http or https address", errNotTaken)
	}
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: its file holds no address", errNotTaken)
	}
	req.Header.Set("Content-Type", "application/json")
	if h.tokenFile != "" {
		token, err := readLine(h.tokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("%w: no answer in time", errNotTaken)
		}
		return fmt.Errorf("%w: it cannot be reached", errNotTaken)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096)) // so that the connection is used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%w: it answered %d", errNotTaken, resp.StatusCode)
	}
	return nil
}

// mailer sends each notice as a mail. Without implicit TLS it wants STARTTLS, unless the server
// is on this machine.
type mailer struct {
	server, from       string
	to                 []string
	user, passwordFile string
	implicit           bool
	roots              *tls.Config // nil: the system's
}

func (m mailer) deliver(ctx context.Context, n *Notice) error {
	err := m.send(ctx, n)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	return nil
}

func (m mailer) send(ctx context.Context, n *Notice) error {
	host, _, err := net.SplitHostPort(m.server)
	if err != nil {
		return errors.New("server is not host:port")
	}
	secure := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if m.roots != nil {
		secure.RootCAs = m.roots.RootCAs
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.server)
	if err != nil {
		return errors.New("mail server cannot be reached")
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(at); err != nil {
			return errors.New("mail server: no deadline can be set")
		}
	}
	if m.implicit {
		conn = tls.Client(conn, secure)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return errors.New("mail server does not greet")
	}
	defer c.Close()
	if can, _ := c.Extension("STARTTLS"); can && !m.implicit {
		if err := c.StartTLS(secure); err != nil {
			return errors.New("mail server: STARTTLS failed")
		}
	} else if ip := net.ParseIP(host); !m.implicit && !(host == "localhost" || ip != nil && ip.IsLoopback()) {
		return errors.New("mail server offers no STARTTLS: nothing is sent in the clear")
	}
	if m.user != "" {
		password, err := readLine(m.passwordFile)
		if err != nil {
			return err
		}
		if c.Auth(smtp.PlainAuth("", m.user, password, host)) != nil {
			return errors.New("mail server does not take the login")
		}
	}
	return m.write(c, n)
}

// write sends the mail itself.
func (m mailer) write(c *smtp.Client, n *Notice) error {
	if c.Mail(m.from) != nil {
		return errors.New("mail server does not take the sender")
	}
	for _, to := range m.to {
		if c.Rcpt(to) != nil {
			return errors.New("mail server does not take a recipient")
		}
	}
	w, err := c.Data()
	if err != nil {
		return errors.New("mail server does not take the mail")
	}
	_, werr := io.WriteString(w, m.text(n))
	if errors.Join(werr, w.Close()) != nil {
		return errors.New("mail server does not take the mail")
	}
	_ = c.Quit() // the mail is taken: however this ends, it is not sent again
	return nil
}

// text is the mail. What comes from a finding can begin no header: line breaks in it are spaces.
func (m mailer) text(n *Notice) string {
	line := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	subject := line(fmt.Sprintf("[trefoil] %s %s: %s %s", n.Incident, n.What, n.Rule, n.Origin))
	var b strings.Builder
	for _, h := range [][2]string{{"From", m.from}, {"To", strings.Join(m.to, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", n.At.Format(time.RFC1123Z)}, {"Message-ID", fmt.Sprintf("<%s.%d@%s>", n.Incident, n.Event, domain(m.from))},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "8bit"}} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	fmt.Fprintf(&b, "\r\n%s: %s\r\n%s\r\nfindings: %d\r\nstate: %s\r\n", line(n.Rule), line(n.Origin), line(n.Reason), n.Findings, n.State)
	if n.Clock != "" {
		fmt.Fprintf(&b, "clock: %s, due %s\r\n", n.Clock, n.Due.Format(time.RFC3339))
	}
	if n.Text != "" {
		fmt.Fprintf(&b, "%s\r\n", line(n.Text))
	}
	return b.String()
}

// domain is what follows the @ of an address.
func domain(address string) string {
	if a, err := mail.ParseAddress(address); err == nil {
		address = a.Address
	}
	_, after, _ := strings.Cut(address, "@")
	return after
}
