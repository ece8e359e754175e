// Gen writes the test model and its data: from the root of the repository,
// go run ./testmodels/gen. The files are always the same.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/thriftc/thriftc/testmodels"
)

func main() {
	dir := flag.String("dir", "testmodels", "the folder that gets glyphs.onnx and glyphs/")
	flag.Parse()
	if err := testmodels.Write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen: error:", err)
		os.Exit(1)
	}
}
