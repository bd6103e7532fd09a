package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// grantsClient speaks to gateway.api: every call is signed with the caller's own key.
type grantsClient struct {
	url, enclave, authority, keyFile string

	signer note.Signer
	http   *http.Client
}

// flags adds what a client needs to know.
func (c *grantsClient) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.url, "api", "", "URL of gateway.api; without it, the control store of enclave.yaml")
	f.StringVar(&c.enclave, "enclave", "", "with --api: the origin of the enclave's log")
	f.StringVar(&c.authority, "authority", "", "with --api: PEM file behind the URL (default the system's)")
}

func (c *grantsClient) keyFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.keyFile, "key", "", "with --api: file with the signing key that the gateway knows the caller by")
}

func (c *grantsClient) open() error {
	if c.enclave == "" || c.keyFile == "" {
		return fmt.Errorf("%w: --api needs --enclave ORIGIN and --key FILE", errUsage)
	}
	text, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("read signing key: %w", err)
	}
	if c.signer, err = note.NewSigner(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("read signing key %s: not a note signing key", c.keyFile)
	}
	c.http = &http.Client{Timeout: 30 * time.Second}
	if c.authority != "" {
		secure, err := certfile.Client(c.authority)
		if err != nil {
			return err
		}
		c.http.Transport = &http.Transport{TLSClientConfig: secure}
	}
	return nil
}

// call sends one request and decodes its answer into out.
func (c *grantsClient) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("draw nonce: %w", err)
	}
	signed, err := grant.SignCall(grant.NewCall(c.enclave, method, path, hex.EncodeToString(nonce), body, time.Now()), c.signer)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.url, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	req.Header.Set(grant.CallField, signed)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var said struct{ Error string }
		if json.Unmarshal(answer, &said) != nil || said.Error == "" {
			said.Error = resp.Status
		}
		return errors.New("the gateway says: " + said.Error)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// fetch returns a request, and makes sure that its hash is its own: what is signed is what was shown.
func (c *grantsClient) fetch(ctx context.Context, id string) (*enclave.GrantView, error) {
	var v enclave.GrantView
	if err := c.call(ctx, http.MethodGet, "/grants/"+id, nil, &v); err != nil {
		return nil, err
	}
	if v.Request.ID != id || v.Hash != v.Request.Hash() {
		return nil, errors.New("the gateway showed another request than was asked for")
	}
	return &v, nil
}

// ask asks for somebody, as a caller that the enclave's configuration names.
func (c *grantsClient) ask(ctx context.Context, a enclave.Ask) (*grant.Request, error) {
	in := map[string]any{"principal": a.Principal, "dataset": a.Dataset, "purpose": a.Purpose, "for": a.For.String(), "reason": a.Reason,
		"subjects": a.Subjects, "statement": a.Statement}
	var v enclave.GrantView
	if err := c.call(ctx, http.MethodPost, "/grants", in, &v); err != nil {
		return nil, err
	}
	if v.Request.Principal != a.Principal || v.Request.Dataset != a.Dataset || v.Hash != v.Request.Hash() {
		return nil, errors.New("the gateway made another request than was asked for")
	}
	return &v.Request, nil
}

// list returns the requests that the key may see, newest first.
func (c *grantsClient) list(ctx context.Context, limit int) ([]enclave.GrantView, error) {
	var out []enclave.GrantView
	return out, c.call(ctx, http.MethodGet, fmt.Sprintf("/grants?limit=%d", limit), nil, &out)
}

// answer signs an answer to exactly the request v, here, and sends it.
func (c *grantsClient) answer(ctx context.Context, v *enclave.GrantView, kind grant.Kind, by string) (*enclave.Answered, error) {
	if by == "" {
		by = c.signer.Name()
	}
	signed, err := grant.Sign(grant.New(kind, v.Request, by, time.Now()), c.signer)
	if err != nil {
		return nil, err
	}
	var a enclave.Answered
	return &a, c.call(ctx, http.MethodPost, "/grants/"+v.Request.ID+"/answers", map[string]string{"envelope": signed}, &a)
}
