/** Expected values of the whole pipeline at full size, and how far from them we are. */
package org.comneck.parity;
