package enclave

import (
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestDeployedExamplesAreRead: an example that the program refuses helps nobody.
func TestDeployedExamplesAreRead(t *testing.T) {
	c, err := Load(filepath.Join("..", "..", "deploy", "three-sites", "enclave.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.openRoutes(func(string, string) {}, nil)
	if err != nil || r.routers["shop"] == nil || r.alias["shop_ro"] != "shop" {
		t.Errorf("routes of the example: %+v, %v", r, err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "three-sites", "patroni.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var patroni map[string]any
	if err := yaml.Unmarshal(text, &patroni); err != nil || patroni["scope"] != "shop" {
		t.Errorf("Patroni's configuration: %v", err)
	}
}
