// Recipe tells the scripts of firmware/image of what a board's image is made: it
// prints the board's data as variables of the shell. It knows the boards and the
// shell's quotes, and refuses to know what the scripts do.
package main

import (
	"fmt"
	"os"
	"strings"

	"flexphone/boards"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: recipe BOARD")
		os.Exit(2)
	}
	text, err := recipe(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}

// recipe returns one assignment a line.
func recipe(name string) (string, error) {
	b, err := boards.Named(name)
	if err != nil {
		return "", err
	}
	i := b.Image
	if i.Kernel == "" {
		return "", fmt.Errorf("recipe: %s is a board to run on, not one to flash", name)
	}
	var s strings.Builder
	for _, v := range []struct{ name, value string }{
		{"arch", i.Arch},
		{"kernel", i.Kernel},
		{"dtb", strings.Join(i.Trees, " ")},
		{"overlay", i.Overlay},
		{"console", i.Console},
		{"initrd_modules", strings.Join(i.InitrdModules, " ")},
		{"modules", strings.Join(i.Modules, " ")},
		{"boot_by", string(i.Boot)},
		{"boot_mib", fmt.Sprint(i.BootMiB)},
	} {
		fmt.Fprintf(&s, "%s='%s'\n", v.name, strings.ReplaceAll(v.value, "'", `'\''`))
	}
	return s.String(), nil
}
