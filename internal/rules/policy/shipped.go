package policy

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed shipped
var shipped embed.FS

// Shipped returns the policies that Trefoil ships, with their corpus in corpus/: what
// trefoil init writes to policy/.
func Shipped() fs.FS {
	sub, err := fs.Sub(shipped, "shipped")
	if err != nil {
		panic(fmt.Sprintf("open shipped policies: %v", err)) // the name is a constant and valid
	}
	return sub
}
