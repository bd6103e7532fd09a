// Package kms speaks to a key management system that wraps the enclave's keys: the transit
// engine of OpenBao (or HashiCorp Vault), over its HTTP API, as a Tink KMSClient.
//
// The invariant it keeps: what it sends is encrypted on the way, or stays on this machine; no
// key, token or answer's text is in an error. It implements POST /v1/MOUNT/encrypt/NAME and
// /decrypt/NAME (OpenBao documentation, API, "Transit secrets engine"). What it does not do:
// make, rotate or delete keys there: the operator's key officers do.
package kms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/trefoil-eu/trefoil/internal/certfile"
)

// Scheme begins the URI of a key: openbao://HOST[:PORT]/MOUNT/keys/NAME. SchemePlain speaks HTTP
// without TLS, to this machine alone.
const (
	Scheme      = "openbao://"
	SchemePlain = "openbao+http://"
)

// answerMost bounds an answer in bytes; a wrapped key is some hundred.
const answerMost = 64 << 10

const timeout = 10 * time.Second

// Options of a client.
type Options struct {
	TokenFile string // holds the token; read at each call, so that it may be renewed beside us
	CAFile    string // certificates that vouch for the server; "" uses the system's
}

// Client is a registry.KMSClient for OpenBao's transit engine.
type Client struct {
	o  Options
	hc *http.Client
}

var _ registry.KMSClient = (*Client)(nil)

// New makes a client. It connects to nothing.
func New(o Options) (*Client, error) {
	config, err := certfile.Client(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the key management system's certificates: %w", err)
	}
	return &Client{o: o, hc: &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: config, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil // the token goes nowhere else
}

// Supported implements registry.KMSClient.
func (c *Client) Supported(uri string) bool {
	_, err := parse(uri)
	return err == nil
}

// GetAEAD implements registry.KMSClient. It connects to nothing.
func (c *Client) GetAEAD(uri string) (tink.AEAD, error) {
	k, err := parse(uri)
	if err != nil {
		return nil, err
	}
	k.client = c
	return k, nil
}

// key is one key of a transit engine.
type key struct {
	client      *Client
	base        string // https://host:port
	mount, name string
}

func parse(uri string) (*key, error) {
	rest, scheme, ok := "", "https://", false
	if rest, ok = strings.CutPrefix(uri, Scheme); !ok {
		if rest, ok = strings.CutPrefix(uri, SchemePlain); !ok {
			return nil, errors.New("the key management system's URI begins with neither " + Scheme + " nor " + SchemePlain)
		}
		scheme = "http://"
	}
	u, err := url.Parse(scheme + rest)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the key management system's URI is not " + Scheme + "HOST[:PORT]/MOUNT/keys/NAME")
	}
	mount, name, ok := strings.Cut(strings.Trim(u.Path, "/"), "/keys/")
	if !ok || mount == "" || name == "" || strings.Contains(name, "/") {
		return nil, errors.New("the key management system's URI is not " + Scheme + "HOST[:PORT]/MOUNT/keys/NAME")
	}
	if ip := net.ParseIP(u.Hostname()); scheme == "http://" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New(SchemePlain + " is for an address of this machine alone")
	}
	return &key{base: scheme + u.Host, mount: mount, name: name}, nil
}

// Encrypt implements tink.AEAD.
func (k *key) Encrypt(plaintext, associated []byte) ([]byte, error) {
	var out struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	in := request{Plaintext: plaintext, Associated: associated}
	if err := k.call("encrypt", in, &out); err != nil {
		return nil, err
	}
	if out.Data.Ciphertext == "" {
		return nil, errors.New("the key management system answered without a wrapped key")
	}
	return []byte(out.Data.Ciphertext), nil
}

// Decrypt implements tink.AEAD.
func (k *key) Decrypt(ciphertext, associated []byte) ([]byte, error) {
	var out struct {
		Data struct {
			Plaintext []byte `json:"plaintext"`
		} `json:"data"`
	}
	if err := k.call("decrypt", request{Ciphertext: string(ciphertext), Associated: associated}, &out); err != nil {
		return nil, err
	}
	if len(out.Data.Plaintext) == 0 {
		return nil, errors.New("the key management system answered without a key")
	}
	return out.Data.Plaintext, nil
}

// request is the body of both calls; []byte is base64 in JSON, as transit wants it.
type request struct {
	Plaintext  []byte `json:"plaintext,omitempty"`
	Ciphertext string `json:"ciphertext,omitempty"`
	Associated []byte `json:"associated_data,omitempty"`
}

func (k *key) call(what string, in request, out any) error {
	token, err := os.ReadFile(k.client.o.TokenFile)
	if err != nil {
		return fmt.Errorf("read the key management system's token: %w", err)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask the key management system: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	address := k.base + "/v1/" + k.mount + "/" + what + "/" + url.PathEscape(k.name)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the key management system: %w", err)
	}
	req.Header.Set("X-Vault-Token", strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.client.hc.Do(req)
	if err != nil {
		return fmt.Errorf("ask the key management system to %s: %w", what, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err != nil {
		return fmt.Errorf("ask the key management system to %s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the key management system to %s: it answered %s", what, resp.Status)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("ask the key management system to %s: its answer is not JSON of the transit engine", what)
	}
	return nil
}
