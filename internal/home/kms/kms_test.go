package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// transit is a transit engine as its documentation has it: it "wraps" by base64 beside the
// associated data, which must come back the same.
func transit(t *testing.T, tls bool) (*httptest.Server, *[]string) {
	t.Helper()
	var asked []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		var in map[string]string
		if r.Header.Get("X-Vault-Token") != "s.token" || json.NewDecoder(r.Body).Decode(&in) != nil {
			http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/v1/transit/encrypt/trefoil":
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"ciphertext": "vault:v1:" + in["plaintext"] + "." + in["associated_data"]}}) //nolint:errcheck // test
		case "/v1/transit/decrypt/trefoil":
			plain, ad, ok := strings.Cut(strings.TrimPrefix(in["ciphertext"], "vault:v1:"), ".")
			if !ok || ad != in["associated_data"] {
				http.Error(w, "{}", http.StatusBadRequest)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"plaintext": plain}}) //nolint:errcheck // test
		case "/v1/elsewhere/encrypt/trefoil":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		default:
			http.Error(w, "{}", http.StatusNotFound)
		}
	})
	s := httptest.NewUnstartedServer(h)
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, &asked
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTransitWrapsAndUnwraps(t *testing.T) {
	for _, secure := range []bool{true, false} {
		s, asked := transit(t, secure)
		o := Options{TokenFile: file(t, "s.token\n")}
		uri := strings.Replace(s.URL, "http://", SchemePlain, 1)
		if secure {
			o.CAFile = file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
			uri = strings.Replace(s.URL, "https://", Scheme, 1)
		}
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.GetAEAD(uri + "/transit/keys/trefoil")
		if err != nil || !c.Supported(uri+"/transit/keys/trefoil") {
			t.Fatal(err)
		}
		wrapped, err := a.Encrypt([]byte("secret"), []byte("place"))
		if err != nil || !bytes.HasPrefix(wrapped, []byte("vault:v1:")) {
			t.Fatalf("%q, %v", wrapped, err)
		}
		if plain, err := a.Decrypt(wrapped, []byte("place")); err != nil || string(plain) != "secret" {
			t.Errorf("%q, %v", plain, err)
		}
		if _, err := a.Decrypt(wrapped, []byte("another place")); err == nil {
			t.Error("it opens in another place")
		}
		if strings.Join(*asked, ",") != "POST /v1/transit/encrypt/trefoil,POST /v1/transit/decrypt/trefoil,POST /v1/transit/decrypt/trefoil" {
			t.Errorf("asked %v", *asked)
		}
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	s, _ := transit(t, false)
	uri := strings.Replace(s.URL, "http://", SchemePlain, 1)
	for name, c := range map[string]struct{ token, path string }{
		"a wrong token": {"s.wrong", "/transit/keys/trefoil"}, "another key": {"s.token", "/transit/keys/none"}, "a redirect": {"s.token", "/elsewhere/keys/trefoil"},
	} {
		client, err := New(Options{TokenFile: file(t, c.token)})
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.GetAEAD(uri + c.path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Encrypt([]byte("the-secret"), nil)
		if err == nil {
			t.Fatalf("%s: it wraps", name)
		}
		for _, secret := range []string{c.token, "the-secret", base64.StdEncoding.EncodeToString([]byte("the-secret"))} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error holds a secret: %v", name, err)
			}
		}
	}
}

func TestURIsThatWouldLeakAreRefused(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{"", "https://x/transit/keys/k", Scheme, Scheme + "h/transit/k", Scheme + "h/transit/keys/", Scheme + "h//keys/k", Scheme + "u:p@h/transit/keys/k",
		SchemePlain + "192.0.2.1/transit/keys/k", SchemePlain + "example.org/transit/keys/k", Scheme + "h/transit/keys/k?x=1", Scheme + "h/transit/keys/a/b"} {
		if _, err := c.GetAEAD(uri); err == nil || c.Supported(uri) {
			t.Errorf("%q is taken", uri)
		}
	}
}
